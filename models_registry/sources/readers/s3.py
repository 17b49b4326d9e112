"""`s3://bucket/key`: an object in S3 or in any store with its protocol.

botocore finds credentials, region and endpoint (`AWS_…` variables, profiles, roles).
"""

import base64
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from models_registry.sources.errors import (
    AccessDeniedError,
    BadSourceError,
    DownloadFailedError,
    SourceError,
    SourceNotFoundError,
)
from models_registry.sources.http.client import InterruptedTransferError
from models_registry.sources.http.remote import (
    TEMPORARY,
    Address,
    Expected,
    RemoteFile,
    ResponseHead,
)
from models_registry.sources.interface import Access

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

_SCHEME: Final = "s3://"
_SIGNED_SECONDS: Final = 3600
# For a single try: the downloader tries again, and can be cancelled in between.
_CONNECT_SECONDS: Final = 5
_READ_SECONDS: Final = 20
_MD5_ETAG: Final = re.compile(r'"([0-9a-f]{32})"')
_PLAIN: Final = "AES256"
_ENCRYPTION: Final = "x-amz-server-side-encryption"


def parse(url: str) -> tuple[str, str]:
    bucket, _, key = unquote(url.removeprefix(_SCHEME)).partition("/")
    if not bucket or not key or key.endswith("/"):
        raise BadSourceError(f"{url!r} is not an S3 source: write s3://bucket/path/model.gguf.")
    return bucket, key


class S3Object(RemoteFile):
    """Asks S3 once for the object's size and checksum, before the first address."""

    def __init__(self, url: str, access: Access) -> None:
        super().__init__(url)
        self._bucket, self._key = parse(url)
        self._client: Any = None
        self._expected = Expected()

    def locate(self) -> Address:
        """A signed address. Raises ``InterruptedTransferError`` if another try may help."""
        if self._client is None:
            client, facts = _described(self.url, self._bucket, self._key)
            self._expected = Expected(_whole_sha256(facts), facts.get("ContentLength"))
            self._client = client
        signed = self._client.generate_presigned_url(
            "get_object",
            Params={"Bucket": self._bucket, "Key": self._key},
            ExpiresIn=_SIGNED_SECONDS,
        )
        return Address(signed, is_configured=True)

    def declared(self, response: ResponseHead) -> Expected:
        etag = _MD5_ETAG.fullmatch(response.headers.get("etag", ""))
        has_key = f"{_ENCRYPTION}-customer-algorithm" in response.headers
        is_plain = response.headers.get(_ENCRYPTION, _PLAIN) == _PLAIN and not has_key
        # The ETag of a multipart upload or of an encrypted object is not its MD5.
        return replace(self._expected, md5=etag[1] if etag and is_plain else None)


def _described(url: str, bucket: str, key: str) -> tuple[Any, dict[str, Any]]:
    # Imported late: it takes 0.1 s, and no other source needs it.
    from botocore import exceptions, session
    from botocore.config import Config

    try:
        client = session.get_session().create_client(
            "s3",
            config=Config(
                signature_version="s3v4",
                connect_timeout=_CONNECT_SECONDS,
                read_timeout=_READ_SECONDS,
                retries={"total_max_attempts": 1},
            ),
        )
        return client, client.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    except exceptions.ClientError as error:
        raise _refusal(url, bucket, error) from error
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError) as error:
        raise AccessDeniedError(
            f"There are no credentials for {url}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. "
            "A public object can be had by its https:// address."
        ) from error
    except (exceptions.ParamValidationError, exceptions.InvalidS3AddressingStyleError) as error:
        raise BadSourceError(f"{url!r} is not an S3 source: {error}") from error
    except (exceptions.HTTPClientError, exceptions.ConnectionError) as error:
        raise InterruptedTransferError(
            f"S3 could not be reached ({error}); check AWS_ENDPOINT_URL and the network"
        ) from error
    except (exceptions.BotoCoreError, ValueError) as error:  # a bad endpoint is a ValueError
        raise DownloadFailedError(
            f"The S3 request for {url} failed: {error} Check the AWS_… variables."
        ) from error


def _refusal(url: str, bucket: str, error: "ClientError") -> SourceError | InterruptedTransferError:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    code = error.response.get("Error", {}).get("Code", "")
    if status == 404:
        return SourceNotFoundError(f"There is no {url}: check the bucket and the key.")
    if status in (400, 401, 403):
        return AccessDeniedError(
            f"S3 refuses {url} ({status} {code}). The credentials must be right and allow "
            f"s3:GetObject in {bucket}; without s3:ListBucket a missing object looks the same."
        )
    if status == 301:
        return BadSourceError(f"{bucket} is in another region: set AWS_DEFAULT_REGION to it.")
    if status in TEMPORARY:
        return InterruptedTransferError(f"S3 answered {status} {code}")
    return DownloadFailedError(f"S3 answered {status} {code} for {url}.")


def _whole_sha256(facts: dict[str, Any]) -> str | None:
    """The object's sha256 (hex); None for a multipart upload, which has a checksum of checksums."""
    encoded = facts.get("ChecksumSHA256", "")
    if facts.get("ChecksumType", "FULL_OBJECT") != "FULL_OBJECT" or "-" in encoded:
        return None
    digest = base64.b64decode(encoded)
    return digest.hex() if digest else None

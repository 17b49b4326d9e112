"""Django settings from the environment; a bad value stops the start with an error."""

import contextlib
import os
import secrets
from datetime import timedelta
from pathlib import Path

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

from inference.conf import InferenceSettings, OrchestrationSettings, default_threads
from inference_site.admin_navigation import UNFOLD as UNFOLD
from inference_site.embedded.urls import embedded_urls
from inference_site.env import Environment, read_dotenv
from inference_site.log_filters import (
    add_ids,
    add_request_id,
    hide_query,
    is_not_503,
    is_not_own_poll,
)
from models_registry.rules.cache_settings import SCOPES, CacheSettings
from models_registry.rules.mode_settings import OrchestrationMode, read_settings

BASE_DIR = Path(__file__).resolve().parent.parent
read_dotenv(BASE_DIR / ".env")
env = Environment(os.environ)

BRIGADE_HOME = Path(env.text("BRIGADE_HOME", str(BASE_DIR / "var"))).expanduser().resolve()


def _stored_secret(name: str) -> str:
    """Return a random secret, created on first use and kept in BRIGADE_HOME."""
    path = BRIGADE_HOME / "secrets" / name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        own = path.with_name(f".{name}.{os.getpid()}")
        with open(os.open(own, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(48))
        # A link is atomic; another process may have created the secret a moment ago.
        with contextlib.suppress(FileExistsError):
            os.link(own, path)
        own.unlink()
    return path.read_text().strip()


SECRET_KEY = env.text("SECRET_KEY") or _stored_secret("django")
JWT_SECRET = env.text("JWT_SECRET") or _stored_secret("jwt")
DEBUG = env.boolean("DEBUG", False)
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS", "*")
CSRF_TRUSTED_ORIGINS = env.words("CSRF_TRUSTED_ORIGINS")

INFERENCE_HOST = env.text("INFERENCE_HOST", "127.0.0.1")
INFERENCE_PORT = env.integer("INFERENCE_PORT", 8085, 1, 65535)
NODE_NAME = env.text("NODE_NAME", "local")

INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "channels",
    "corsheaders",
    "django_q",
    "auditlog",
    "metrics",
    "caching",
    "models_registry",
    "inference",
    "inference_site",
]
MIDDLEWARE = [
    "corsheaders.middleware.CorsMiddleware",
    "inference_site.middleware.StaticFiles",
    "inference_site.middleware.PageSessions",
    "inference_site.middleware.PageCommon",
    "inference_site.middleware.PageCsrf",
    "inference_site.middleware.PageUsers",
    "inference_site.middleware.PageActors",
    "inference_site.middleware.PageMessages",
    "inference_site.middleware.PageFrames",
]
# Everything but pages: the API, which has no forms and answers in JSON.
CORS_URLS_REGEX = r"^/(?!$|admin(?:/|$)|static/)"
CORS_ALLOWED_ORIGIN_REGEXES = [r"^https?://(?:localhost|127\.0\.0\.1|\[::1\])(?::\d+)?\Z"]
CORS_ALLOWED_ORIGINS = env.words("INFERENCE_CORS_ORIGINS")
CORS_ALLOW_ALL_ORIGINS = "*" in CORS_ALLOWED_ORIGINS
if CORS_ALLOW_ALL_ORIGINS:
    CORS_ALLOWED_ORIGINS = []
# "*" does not include this header.
CORS_ALLOW_HEADERS = ["authorization", "*"]
CORS_EXPOSE_HEADERS = [
    *("x-request-id", "retry-after", "brigade-ignored"),
    *("x-brigade-model-version", "deprecation", "warning"),
    *("x-brigade-cache", "x-brigade-cache-age", "x-brigade-cache-key"),
    "x-brigade-cache-similarity",
]
ROOT_URLCONF = "inference_site.urls"
ASGI_APPLICATION = "inference_site.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

_embedded_database_url, _embedded_redis_url = embedded_urls(BRIGADE_HOME)
DATABASE_URL = env.text("DATABASE_URL") or _embedded_database_url
REDIS_URL = env.text("REDIS_URL") or _embedded_redis_url
DATABASES = {
    "default": dj_database_url.parse(
        DATABASE_URL,
        engine="django.db.backends.postgresql",
        conn_max_age=600,
        conn_health_checks=True,
    )
}
DATABASES["default"].setdefault("OPTIONS", {}).setdefault("connect_timeout", 5)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_I18N = False
USE_TZ = True
FORMAT_MODULE_PATH = ["inference_site.formats"]
LOGIN_REDIRECT_URL = "/admin/"
STATIC_URL = "/static/"
STATIC_ROOT = env.text("STATIC_ROOT") or None
WHITENOISE_USE_FINDERS = True

# The zone of the days for which totals are kept, and how long the record of a request is.
USAGE_TIME_ZONE = env.time_zone("USAGE_TIME_ZONE", "UTC")
USAGE_RECORD_DAYS = env.integer("USAGE_RECORD_DAYS", 90, 1, 3650)

# Reports by e-mail; none is sent without EMAIL_HOST.
EMAIL_HOST = env.text("EMAIL_HOST")
EMAIL_PORT = env.integer("EMAIL_PORT", 587, 1, 65535)
EMAIL_HOST_USER = env.text("EMAIL_HOST_USER")
EMAIL_HOST_PASSWORD = env.text("EMAIL_HOST_PASSWORD")
EMAIL_USE_TLS = env.boolean("EMAIL_USE_TLS", True)
EMAIL_TIMEOUT = 30
DEFAULT_FROM_EMAIL = env.text("DEFAULT_FROM_EMAIL", "brigade@localhost")

# Sources of model files; botocore reads the AWS_… variables itself.
HF_TOKEN = env.text("HF_TOKEN").strip()
HF_ENDPOINT = env.text("HF_ENDPOINT", "https://huggingface.co")
# Whether sources given over the API may point to this machine and private networks.
SOURCES_ALLOW_PRIVATE = env.boolean("SOURCES_ALLOW_PRIVATE", False)

_modes: dict[str, dict[str, object]] = {
    "single": {},
    "critique": {
        "max_rounds": env.integer("INFERENCE_CRITIQUE_MAX_ROUNDS", 2, 1, 10),
        "threshold": env.number("INFERENCE_CRITIQUE_THRESHOLD", 0.8, 0, 1),
    },
    "debate": {
        "max_rounds": env.integer("INFERENCE_DEBATE_MAX_ROUNDS", 3, 1, 10),
        "reconcile_model": env.text("INFERENCE_DEBATE_RECONCILE_MODEL", "primary"),
    },
    "ensemble": {
        "min_agreement": env.number("INFERENCE_ENSEMBLE_MIN_AGREEMENT", 0.7, 0, 1),
        "synthesis_model": env.text("INFERENCE_ENSEMBLE_SYNTHESIS_MODEL", "primary"),
    },
    "pipeline": {"stages": env.words("INFERENCE_PIPELINE_STAGES", "draft,refine,validate")},
}
try:
    _mode_settings = {mode: read_settings(mode, values) for mode, values in _modes.items()}
except ValueError as error:
    raise ImproperlyConfigured(f"INFERENCE_<MODE>_<NAME>: {error}") from None
_max_concurrent_requests = env.integer("INFERENCE_MAX_CONCURRENT_REQUESTS", 512, 1, 100_000)
INFERENCE = InferenceSettings(
    models_dir=Path(env.text("INFERENCE_MODELS_DIR", str(BRIGADE_HOME / "models"))),
    node_name=NODE_NAME,
    queue_strategy=env.choice("INFERENCE_QUEUE_STRATEGY", "priority", ("fifo", "priority")),
    max_queue_size=env.integer("INFERENCE_MAX_QUEUE_SIZE", 50, 1, 100_000),
    max_concurrent_requests=_max_concurrent_requests,
    max_concurrent_per_model=env.integer(
        "INFERENCE_MAX_CONCURRENT_PER_MODEL", _max_concurrent_requests, 1, 100_000
    ),
    default_priority=env.integer("INFERENCE_DEFAULT_PRIORITY", 2, 1, 3),
    ageing_seconds=env.number("INFERENCE_AGEING_SECONDS", 30, 0.1, 3600),
    queue_timeout_seconds=env.number("INFERENCE_QUEUE_TIMEOUT", 60, 0.1, 3600),
    request_timeout_seconds=env.number("INFERENCE_REQUEST_TIMEOUT", 600, 1, 86_400),
    stream_ttl_seconds=env.integer("INFERENCE_STREAM_TTL", 600, 1, 86_400),
    heartbeat_seconds=env.number("INFERENCE_HEARTBEAT", 1, 0.1, 60),
    lease_seconds=env.number("INFERENCE_LEASE", 5, 0.5, 300),
    step_timeout_seconds=env.number("INFERENCE_STEP_TIMEOUT", 120, 1, 3600),
    load_stall_seconds=env.number("INFERENCE_LOAD_STALL", 300, 10, 86_400),
    max_body_bytes=env.integer("INFERENCE_MAX_BODY_BYTES", 8 * 1024 * 1024, 1024, 1 << 30),
    max_prompt_characters=env.integer("INFERENCE_MAX_PROMPT_CHARACTERS", 1_000_000, 1, 10_000_000),
    strict_parameters=env.boolean("INFERENCE_STRICT_PARAMETERS", False),
    max_replicas=env.integer("INFERENCE_MAX_REPLICAS", 4, 1, 64),
    prompt_workers=env.integer("INFERENCE_PROMPT_WORKERS", 1, 1, 64),
    threads=env.integer(
        "INFERENCE_THREADS", default_threads(len(os.sched_getaffinity(0))), 1, 1024
    ),
    gpu_layers=env.integer("INFERENCE_GPU_LAYERS", -1, -1, 100_000),
    embedding_cache_ttl_seconds=env.integer("INFERENCE_EMBEDDING_CACHE_TTL", 3600, 0, 31_536_000),
    embedding_cache_entries=env.integer("INFERENCE_EMBEDDING_CACHE_ENTRIES", 10_000, 1, 10_000_000),
    prefix_sharing=env.choice("INFERENCE_PREFIX_SHARING", "user", ("key", "user", "all")),
    prefill_slowdown=env.number("INFERENCE_PREFILL_SLOWDOWN", 2.0, 1.1, 1000.0),
    sse_heartbeat_seconds=env.number("INFERENCE_SSE_HEARTBEAT", 15, 0.1, 300),
    memory_budget_bytes=env.integer("INFERENCE_MEMORY_BUDGET_BYTES", 0, 0, 1 << 50),
    keep_alive_seconds=env.number("INFERENCE_KEEP_ALIVE_SECONDS", -1, -1, 31_536_000),
    minimum_dwell_seconds=env.number("INFERENCE_MINIMUM_DWELL", 10, 0, 3600),
    maximum_wait_seconds=env.number("INFERENCE_MAXIMUM_WAIT", 20, 0.1, 3600),
    preload_models=tuple(env.words("INFERENCE_PRELOAD_MODELS")),
    config_preset=env.text("INFERENCE_CONFIG"),
    model_roles=env.word_lists("INFERENCE_MODEL_ROLES"),
    demand_prediction=env.choice("INFERENCE_DEMAND_PREDICTION", "shadow", ("shadow", "act", "off")),
    cache_bytes=env.integer("INFERENCE_CACHE_BYTES", 128 * 1024 * 1024, 0, 1 << 40),
    cache=CacheSettings(
        match=env.choice("INFERENCE_CACHE_MATCH", "exact", ("exact", "retyped", "semantic")),
        scope=env.choice("INFERENCE_CACHE_SCOPE", "end_user", SCOPES),
        ttl=env.integer("L1_CACHE_TTL", 86_400, 1, 31_536_000),
        min_similarity=env.number("INFERENCE_CACHE_MIN_SIMILARITY", 0.95, 0.5, 1),
        shadow=env.boolean("INFERENCE_CACHE_SHADOW", True),
    ),
    cache_billing=env.choice("INFERENCE_CACHE_BILLING", "free", ("free", "full")),
    cache_embedder=env.text("INFERENCE_CACHE_EMBEDDER"),
    semantic_ttl=env.integer("L2_CACHE_TTL", 604_800, 1, 31_536_000),
    cache_keeps_unloaded=not env.boolean("INFERENCE_CACHE_FORGET_ON_UNLOAD", False),
    orchestration=OrchestrationSettings(
        default_mode=env.choice(
            "INFERENCE_ORCHESTRATION_MODE", "single", tuple(OrchestrationMode.values)
        ),
        max_calls=env.integer("INFERENCE_ORCHESTRATION_MAX_CALLS", 32, 2, 1000),
        timeout_seconds=env.number("INFERENCE_ORCHESTRATION_TIMEOUT", 600, 1, 86_400),
        text_ttl_seconds=env.integer("INFERENCE_RUN_TEXT_TTL", 86_400, 0, 31_536_000),
        grace_seconds=env.number("INFERENCE_RUN_GRACE", 30, 0, 3600),
        modes=_mode_settings,
    ),
)
# OpenTelemetry's SDK reads its variables itself.
TRACES_ENDPOINT = env.text("OTEL_EXPORTER_OTLP_ENDPOINT")
TRACES_SAMPLER = env.text("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
_is_wanted = env.boolean("OTEL_ENABLED", True) and not env.boolean("OTEL_SDK_DISABLED", False)
TRACING = bool(TRACES_ENDPOINT) and _is_wanted
# There is only one; see checks.py.
INFERENCE_BACKEND = env.text("INFERENCE_BACKEND", "llamacpp")
DATA_UPLOAD_MAX_MEMORY_SIZE = INFERENCE.max_body_bytes

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["inference.api.authentication.KeyOrTokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["inference.api.authentication.HasScope"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "EXCEPTION_HANDLER": "inference.api.error_renderer.handle_exception",
    "UNAUTHENTICATED_USER": None,
}
# Tokens of another issuer that share JWT_SECRET carry neither "token_type" nor "jti": only the
# signature, "exp" and "sub" are required.
SIMPLE_JWT = {
    "ALGORITHM": "HS256",
    "SIGNING_KEY": JWT_SECRET,
    "USER_ID_CLAIM": "sub",
    "USER_ID_FIELD": "username",
    "TOKEN_TYPE_CLAIM": None,
    "JTI_CLAIM": None,
    "ACCESS_TOKEN_LIFETIME": timedelta(
        seconds=env.integer("JWT_LIFETIME_SECONDS", 3600, 60, 31_536_000)
    ),
}

_CLUSTER = {
    "redis": REDIS_URL,
    "label": "Jobs",
    # No limit: a host's task lasts as long as its replica.
    "timeout": -1,
    "retry": 172_800,
    "queue_limit": 1,
    "guard_cycle": 2,
    "max_attempts": 1,
    "save_limit": 200,
    "catch_up": False,
}
Q_CLUSTER = {
    **_CLUSTER,
    "name": "jobs",
    "workers": env.integer("INFERENCE_JOB_WORKERS", 2, 1, 64),
    "ALT_CLUSTERS": {
        "models": {
            **_CLUSTER,
            # A new process for each replica: its exit frees the memory.
            "recycle": 1,
            # The longest delay of messages between controller and cluster.
            "guard_cycle": 1,
            "workers": INFERENCE.max_replicas,
            "daemonize_workers": False,
        },
    },
}

_LOG_FORMAT = env.choice("INFERENCE_LOG_FORMAT", "line", ("line", "json"))
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"format": "%(asctime)s %(levelname)s %(name)s %(request_id)s%(message)s"},
        "json": {
            "()": "pythonjsonlogger.json.JsonFormatter",
            "fmt": ["levelname", "name", "message", "request_id", "run_id", "trace_id"],
            "rename_fields": {"levelname": "level", "name": "logger"},
            "timestamp": "time",
        },
    },
    "filters": {
        "not_own_poll": {"()": "django.utils.log.CallbackFilter", "callback": is_not_own_poll},
        "not_503": {"()": "django.utils.log.CallbackFilter", "callback": is_not_503},
        "no_query": {"()": "django.utils.log.CallbackFilter", "callback": hide_query},
        "line": {"()": "django.utils.log.CallbackFilter", "callback": add_request_id},
        "json": {"()": "django.utils.log.CallbackFilter", "callback": add_ids},
    },
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": _LOG_FORMAT,
            "filters": [_LOG_FORMAT],
        }
    },
    "root": {
        "handlers": ["console"],
        "level": env.choice(
            "INFERENCE_LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
        ),
    },
    "loggers": {
        "django-q": {"level": "WARNING"},
        # Otherwise each try to reach a collector that is away would be a line.
        "opentelemetry": {"level": "ERROR"},
        # Its lines about WebSockets contain the query, and so the key.
        "uvicorn.error": {"level": "WARNING"},
        # In this order: ``hide_query`` cuts the query that ``is_not_own_poll`` compares.
        "uvicorn.access": {"filters": ["not_own_poll", "no_query"]},
        # Otherwise each 4xx of the API would be a warning that repeats the access log, and each
        # 503 of the readiness probe an error.
        "django.request": {"level": "ERROR", "filters": ["not_503"]},
    },
}
# The last line: every variable has been read.
INFERENCE_UNREAD = env.unread("INFERENCE_")

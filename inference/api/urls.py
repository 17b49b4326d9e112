"""Routes of the API."""

from django.urls import path

from inference.api.caches import ForgetAnswers
from inference.api.metrics import (
    CostMetrics,
    ModelMetrics,
    ServiceMetrics,
    UsageMetrics,
    VersionMetrics,
)
from inference.api.openai.chat import ChatCompletions
from inference.api.openai.completions import Completions
from inference.api.openai.embeddings import Embeddings
from inference.api.openai.models import LoadModel, ModelDetail, Models, UnloadModel
from inference.api.openai.tokenize import Detokenize, Tokenize
from inference.api.prometheus import Prometheus
from inference.api.registry.downloads import (
    DownloadDetail,
    Downloads,
    RetryDownload,
    StartDownload,
)
from inference.api.registry.models import RegisteredModel, RegisteredModels, Versions
from inference.api.registry.registrations import (
    EmbeddingsOfRegistered,
    RegistrationDetail,
    Registrations,
)
from inference.api.registry.status import Status
from inference.api.streams import Streams
from inference.api.token import Token

urlpatterns = [
    path("v1/chat/completions", ChatCompletions.as_view()),
    path("v1/completions", Completions.as_view()),
    path("v1/embeddings", Embeddings.as_view()),
    path("v1/tokenize", Tokenize.as_view()),
    path("v1/detokenize", Detokenize.as_view()),
    path("v1/models", Models.as_view()),
    path("v1/models/<str:model_id>", ModelDetail.as_view()),
    path("v1/models/<str:model_id>/load", LoadModel.as_view()),
    path("v1/models/<str:model_id>/unload", UnloadModel.as_view()),
    path("v1/streams/<str:run_id>", Streams.as_view()),
    path("api/models/download", StartDownload.as_view()),
    path("api/models/downloads", Downloads.as_view()),
    path("api/models/downloads/<uuid:download_id>", DownloadDetail.as_view()),
    path("api/models/downloads/<uuid:download_id>/retry", RetryDownload.as_view()),
    path("api/models/registrations", Registrations.as_view()),
    path("api/models/registrations/embeddings", EmbeddingsOfRegistered.as_view()),
    path("api/models/registrations/<uuid:registration_id>", RegistrationDetail.as_view()),
    path("api/models", RegisteredModels.as_view()),
    path("api/models/<str:model_id>", RegisteredModel.as_view()),
    path("api/models/<str:model_id>/versions", Versions.as_view()),
    path("api/models/<str:model_id>/metrics", ModelMetrics.as_view()),
    path("api/v1/metrics", UsageMetrics.as_view()),
    path("api/metrics", ServiceMetrics.as_view()),
    path("api/metrics/usage", UsageMetrics.as_view()),
    path("api/metrics/cost", CostMetrics.as_view()),
    path("api/metrics/models/<str:model_id>", VersionMetrics.as_view()),
    path("api/cache/forget", ForgetAnswers.as_view()),
    path("api/status", Status.as_view()),
    path("api/auth/token", Token.as_view()),
    path("metrics", Prometheus.as_view()),
]

"""Every metric that ``GET /metrics`` shows; docs/monitoring.md describes them.

Labels take few values: versions of the registry, and words of the code. Users, keys, teams and
paths are no labels, because anybody could add series without end.
"""

from dataclasses import dataclass

MICROSECONDS = 1e6
NANODOLLARS = 1e9


@dataclass(frozen=True)
class Metric:
    """A stored whole number counts parts, ``per`` of them in a unit."""

    name: str
    help: str
    labels: tuple[str, ...] = ("version",)
    per: float = 1


@dataclass(frozen=True)
class Histogram:
    """Times of a version's finished requests that a model answered; ``bounds`` in seconds."""

    name: str
    help: str
    bounds: tuple[float, ...] = (
        *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
        *(5, 10, 30, 60, 120, 300, 600),
    )


REQUESTS = Metric("brigade_requests", "Accepted requests, ended.", ("version", "kind", "outcome"))
REFUSED = Metric("brigade_requests_refused", "Refused requests, by error code.", ("reason",))
PROMPT_TOKENS = Metric("brigade_prompt_tokens", "Tokens of prompts.")
PREFIX_HITS = Metric("brigade_prefix_cache_hits", "Tokens of prompts that were not computed again.")
GENERATION_TOKENS = Metric("brigade_generation_tokens", "Tokens of answers.")
COST = Metric("brigade_cost_usd", "Cost of requests in US dollars.", per=NANODOLLARS)
DEVICE = Metric("brigade_device_seconds", "Time of devices spent on requests.", per=MICROSECONDS)
FALLBACKS = Metric("brigade_fallbacks", "Requests that a fallback version answered.")
CACHE_HITS = Metric("brigade_cache_hits", "Requests that a cache answered.", ("version", "tier"))
CACHE_WRONG = Metric(
    "brigade_cache_semantic_wrong_ratio",
    "Part of the compared hits of the semantic cache whose answers do not agree.",
    ("version", "preset"),
)
LOADS = Metric("brigade_loads", "Loads of a version into memory that were begun.")

TTFT = Histogram("brigade_time_to_first_token_seconds", "Time from admission to the first token.")
INTER_TOKEN = Histogram(
    "brigade_inter_token_latency_seconds",
    "Mean time between two tokens of a request.",
    (0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5),
)
QUEUE = Histogram("brigade_request_queue_time_seconds", "Time in the queue of the version.")
PREFILL = Histogram("brigade_request_prefill_time_seconds", "Time to compute the prompt.")
DECODE = Histogram("brigade_request_decode_time_seconds", "Time to generate the answer.")
TOTAL = Histogram("brigade_e2e_request_latency_seconds", "Time from admission to the end.")

RUNNING = Metric("brigade_num_requests_running", "Generations that hosts compute now.")
WAITING = Metric("brigade_num_requests_waiting", "Generations that wait inside hosts.")
KV_USAGE = Metric("brigade_kv_cache_usage_perc", "Part of the KV cells in use, 0 to 1.")
RESIDENT = Metric("brigade_resident_bytes", "Main memory that the hosts of a version hold.")
QUEUE_DEPTH = Metric("brigade_queue_depth", "Generations that wait for a host.")
READY = Metric("brigade_ready_replicas", "Hosts that serve the version.")
OPEN = Metric("brigade_open_requests", "Accepted requests without a record yet.", ())
UNWRITTEN = Metric("brigade_unwritten_records", "Records that only Redis has.", ())
ROLL_LAG = Metric("brigade_roll_lag_seconds", "Age of the oldest totals that are out of date.", ())
CONTROLLER = Metric("brigade_controller_up", "Whether a controller acts: 1, else 0.", ())

COUNTERS = (
    *(REQUESTS, REFUSED, PROMPT_TOKENS, PREFIX_HITS, GENERATION_TOKENS),
    *(COST, DEVICE, FALLBACKS, CACHE_HITS, LOADS),
)
HISTOGRAMS = (TTFT, INTER_TOKEN, QUEUE, PREFILL, DECODE, TOTAL)
GAUGES = (
    *(RUNNING, WAITING, KV_USAGE, RESIDENT, QUEUE_DEPTH, READY),
    *(OPEN, UNWRITTEN, ROLL_LAG, CONTROLLER, CACHE_WRONG),
)

# Resources that jobs request, in MiB and minutes: more at each further attempt. Jobs that need a GPU
# request one.
INFER_GPUS = int("cuda" in f"{SETTINGS.model.device} {SETTINGS.decoder}")
ENCODE_GPUS = int(SETTINGS.output.codec.endswith("nvenc"))
if SETTINGS.output.encodes_in("infer"):
    INFER_GPUS = max(INFER_GPUS, ENCODE_GPUS)


def longest_first(wildcards):
    """Priority of a shard: the first one takes the longest."""
    return SHARDS - int(wildcards.scatteritem.partition("-")[0])


def load(stage, wildcards):
    """Predicted load of a shard; unknown before the plan exists."""
    found = read_job_resources("work/shards", stage, wildcards.scatteritem)
    if workflow.is_main_process and workflow.non_local_exec:
        for text in shard_count_warnings("work/shards", since=STARTED[0]):
            logger.warning(f"{text} (docs/clusters.md)")
    return found


def infer_memory(wildcards, input, attempt):
    return load("infer", wildcards).mem_mb(attempt)


def infer_minutes(wildcards, input, attempt):
    return load("infer", wildcards).runtime_minutes(attempt)


def encode_memory(wildcards, input, attempt):
    return load("encode", wildcards).mem_mb(attempt)


def encode_minutes(wildcards, input, attempt):
    return load("encode", wildcards).runtime_minutes(attempt)


def probe_memory(wildcards, attempt):
    return (1000 + N_VIDEOS // 200) * attempt


def probe_minutes(wildcards, attempt):
    return (60 + N_VIDEOS // 100) * attempt


def plan_memory(wildcards, attempt):
    return (500 + 6 * N_VIDEOS // 1000) * attempt


def plan_minutes(wildcards, attempt):
    return (30 + N_VIDEOS // 10_000) * attempt


def assemble_memory(wildcards, attempt):
    return (2000 + 12 * N_VIDEOS // 1000) * attempt


def assemble_minutes(wildcards, attempt):
    return (120 + N_VIDEOS // 100) * attempt

# Drawings may show past frames, so a video is encoded after all of it was inferred. One aggregate rule
# keeps the job graph at 2n edges instead of n².
rule inferred:
    input:
        gather.infer("work/infer/{scatteritem}.json"),
    output:
        "work/inferred",
    log:
        "logs/inferred.log",
    localrule: True
    conda:
        "../envs/pvio.yaml"
    threads: 1
    message:
        "Collecting failed segments of all shards"
    shell:
        "pvio inferred --out {output} {input} > {log} 2>&1"


rule encode:
    input:
        parts="work/shards",
        inferred="work/inferred",
        settings=INPUTS["encode"].path,
        stale=stale_encode,
    output:
        "work/encode/{scatteritem}.json",
    log:
        "logs/encode/{scatteritem}.log",
    benchmark:
        "logs/benchmark/encode/{scatteritem}.tsv"
    priority: longest_first
    conda:
        "../envs/pvio.yaml"
    threads: 1
    resources:
        mem_mb=encode_memory,
        runtime=encode_minutes,
        gpu=ENCODE_GPUS,
    params:
        results=RESULTS,
        model=MODEL,
        version=PVIO_VERSION,
    message:
        "Encode shard {wildcards.scatteritem}: overlay video is made where it is missing"
    shell:
        "PVIO_JOB=1 pvio encode --config {input.settings}"
        " --plan {input.parts}/encode/{wildcards.scatteritem}.json --shard {wildcards.scatteritem}"
        " --inferred {input.inferred} --results {params.results:q} --out {output} > {log} 2>&1"

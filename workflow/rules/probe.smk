rule probe:
    output:
        "work/probe.json",
    log:
        "logs/probe.log",
    benchmark:
        "logs/benchmark/probe.tsv"
    conda:
        "../envs/pvio.yaml"
    threads: CORES
    resources:
        mem_mb=lambda wildcards, attempt: (1000 + N_VIDEOS // 200) * attempt,
        runtime=lambda wildcards, attempt: (60 + N_VIDEOS // 100) * attempt,
    params:
        settings=PROBE_SETTINGS,
        collection=COLLECTION,
        version=PVIO_VERSION,
    message:
        "Indexing the frames of the collection"
    shell:
        "PVIO_JOB=1 pvio probe --config {params.settings:q} --threads {threads} --out {output} > {log} 2>&1"

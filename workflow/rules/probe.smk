rule probe:
    input:
        settings=INPUTS["probe"].path,
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
        mem_mb=probe_memory,
        runtime=probe_minutes,
    params:
        results=RESULTS,
        collection=COLLECTION,
        version=PVIO_VERSION,
    message:
        "Indexing the frames of the collection"
    shell:
        "PVIO_JOB=1 pvio probe --config {input.settings} --results {params.results:q} --threads {threads} --out {output} > {log} 2>&1"

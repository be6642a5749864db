rule check:
    input:
        "work/assembled",
    output:
        touch("work/checked"),
    log:
        "logs/check.log",
    benchmark:
        "logs/benchmark/check.tsv"
    localrule: True
    conda:
        "../envs/pvio.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        results=RESULTS,
        on_damaged=SETTINGS.on_damaged,
        on_failed=SETTINGS.on_failed,
    message:
        "Checking that no video failed or is damaged"
    shell:
        "PVIO_JOB=1 pvio check {params.results:q}/summary.tsv --on-damaged {params.on_damaged}"
        " --on-failed {params.on_failed} > {log} 2>&1"

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
    message:
        "Checking that no video is damaged"
    shell:
        "PVIO_JOB=1 pvio check results/summary.tsv > {log} 2>&1"

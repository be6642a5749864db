rule report:
    input:
        plan="results/plan.json",
        summary="results/summary.tsv",
        infer=gather.infer("work/infer/{scatteritem}.json"),
        encode=gather.encode("work/encode/{scatteritem}.json") if ENCODES else [],
    output:
        report(
            "results/report.html",
            caption="../report/report.rst",
            category="pvio",
        ),
    log:
        "logs/report.log",
    benchmark:
        "logs/benchmark/report.tsv"
    conda:
        "../envs/pvio.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=30,
    message:
        "Writing results/report.html"
    shell:
        "pvio report --plan {input.plan} --summary {input.summary} --out {output}"
        " {input.infer} {input.encode} > {log} 2>&1"


rule check:
    input:
        summary="results/summary.tsv",
        report="results/report.html",
    output:
        touch("work/checked"),
    log:
        "logs/check.log",
    benchmark:
        "logs/benchmark/check.tsv"
    conda:
        "../envs/pvio.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    message:
        "Checking that no video is damaged"
    shell:
        "pvio check {input.summary} > {log} 2>&1"

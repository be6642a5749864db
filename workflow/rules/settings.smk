rule settings:
    output:
        f"{SETTINGS_FOLDER}/{{digest}}.json",
    log:
        "logs/settings/{digest}.log",
    localrule: True
    conda:
        "../envs/pvio.yaml"
    threads: 1
    params:
        text=settings_text,
    message:
        "Writing settings for the jobs"
    shell:
        "printf '%s\\n' {params.text:q} > {output} 2> {log}"

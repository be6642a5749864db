# For a clone: `snakemake --cores all` here runs the workflow. It is workflow/Snakefile.
include: "workflow/Snakefile"


# The default target of an included file does not count.
rule default:
    default_target: True
    input:
        rules.all.input,
    localrule: True

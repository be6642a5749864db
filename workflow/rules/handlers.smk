onstart:
    end_jobs_on_sigterm()


onsuccess:
    summary = Path("results/summary.tsv")
    rows = read_summary(summary) if summary.exists() else []
    bad = sum(row["status"] != "ok" for row in rows)
    if bad:
        print(
            f"{bad} of {len(rows)} videos are not ok: see {summary}",
            file=sys.stderr,
        )
    names = Path("results", NAMES_FILE)
    renamed = renamed_results() if names.exists() else {}
    if renamed and names.stat().st_mtime >= STARTED:
        old, new = next(iter(renamed.items()))
        print(
            printable(
                f"{len(renamed)} results have another name now, since their files were moved "
                f"({old} is {new}): see logs/assemble.log"
            ),
            file=sys.stderr,
        )


onerror:
    # Snakemake names the failed job and its log; this adds what went wrong.
    for path in sorted(Path("logs").rglob("*.log")):
        if path.stat().st_mtime < STARTED:
            continue
        text = f"\n{path.read_text(encoding='utf-8', errors='replace')}"
        _, found, error = text.rpartition("\nError: ")
        if found:
            print(f"\n{path}: {printable_lines(error.strip())}", file=sys.stderr)

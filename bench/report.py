"""The figures as Markdown, ready for docs/performance.md, or as JSON."""

# Share of its core from which on a server counts as the one that sets the pace.
FULL = 0.93


def as_row(contestant):
    return {"name": contestant.name, "rss_mb": contestant.rss_mb,
            **{key: contestant.median(key) for key in contestant.stretches[0]},
            "stretches": contestant.stretches}


def goal(name, target, by_rate, by_cpu):
    """A ratio to reach, by requests a second; by CPU time it is told beside."""
    return {"name": name, "goal": f"≥ {target} ×", "found": by_rate, "found_by_cpu": by_cpu, "unit": "×",
            "met": by_rate >= target}


def bound(name, found, target, unit):
    """A figure that must not be larger."""
    return {"name": name, "goal": f"≤ {target} {unit}", "found": found, "found_by_cpu": None, "unit": unit,
            "met": found <= target}


def significant(value):
    """Three significant digits, in plain notation; whole numbers from 1,000 on."""
    if value >= 1000:
        return f"{value:,.0f}"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.2g}" if value < 0.01 else f"{value:.3g}"


def machine_line(result):
    m = result["machine"]
    extensions = ", ".join(m["vector_extensions"]) or "no vector extensions known here"
    return (f"{result['date']}, commit {result['commit']}. {m['processor']} ({extensions}), {m['cores']} cores, "
            f"{m['memory_gib']} GiB, Linux {m['kernel']}; load before the start {result['load']:.1f}. "
            f"Server pinned to one core, load generator to another; {result['rounds']} interleaved rounds of "
            f"{result['seconds']} s, medians.")


def workload_table(workload):
    lines = [f"### {workload['title']}, concurrency {workload['concurrency']}", "",
             "| server | req/s | p50 / p99 ms | CPU ms a request | RSS MB |", "| --- | --- | --- | --- | --- |"]
    for row in workload["contestants"]:
        lines.append(f"| {row['name']} | {significant(row['requests_per_s'])} | {significant(row['p50_ms'])} / "
                     f"{significant(row['p99_ms'])} | {significant(row['cpu_ms'])} | {row['rss_mb']:.0f} |")
    lines.append("")
    if workload.get("answer_bytes"):
        lines += [f"Answers are {workload['answer_bytes']['model']} bytes on average, "
                  f"the constant one {workload['answer_bytes']['constant']}.", ""]
    return lines


def start_table(starts):
    lines = ["### Start, housing alone", "",
             "| server | start to first answer, ms (median of starts) | RSS MB after it |", "| --- | --- | --- |"]
    lines += [f"| {s['name']} | {significant(s['first_answer_ms'])} ({s['starts']}) | {s['rss_mb']:.1f} |" for s in starts]
    return [*lines, ""]


def goal_table(goals):
    lines = ["### Against the goals", "", "| what | goal | found | by CPU a request | |",
             "| --- | --- | --- | --- | --- |"]
    for g in goals:
        by_cpu = f"{significant(g['found_by_cpu'])} ×" if g["found_by_cpu"] else ""
        lines.append(f"| {g['name']} | {g['goal']} | {significant(g['found'])} {g['unit']} | {by_cpu} | "
                     f"{'met' if g['met'] else '**missed**'} |")
    return [*lines, ""]


def starved(workloads):
    """Where the server did not have, or did not need, its whole core: the rate is then the
    load generator's or another process's doing, and CPU a request is the figure to read."""
    names = [f"{row['name']} ({w['title']}, {100 * row['core_share']:.0f} %)"
             for w in workloads for row in w["contestants"] if row["core_share"] < FULL]
    return ["Less than a full core was used by " + "; ".join(names) +
            ": read CPU a request there, not requests a second.", ""] if names else []


def markdown(result, more):
    """`more` is the tables of the parts that have their own."""
    lines = [machine_line(result), ""]
    for workload in result["workloads"]:
        lines += workload_table(workload)
    if result["starts"]:
        lines += start_table(result["starts"])
    lines += more
    if result["goals"]:
        lines += goal_table(result["goals"])
    lines += starved(result["workloads"])
    if result["workloads"]:
        lines.append("Peer versions: " + ", ".join(result["peer_versions"]) + ".")
    return "\n".join(lines)

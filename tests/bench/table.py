"""Rows of scripts/bench: alternating rounds of ours and a peer's, medians, and one line a row."""

import statistics

from servers import measure

HEAD = ("| what | cubbyd | peer | ratio | to reach | p50 / p99 us | peer | CPU us/op | peer | ratio |\n"
        "|---|---|---|---|---|---|---|---|---|---|")


class Side:
    """One of the two that are compared: a name, a server, what it is to do, and what before that."""

    def __init__(self, name, server, work, prepare=None):
        self.name, self.server, self.work, self.prepare = name, server, work, prepare
        self.samples = []

    def measure(self):
        if self.prepare is not None:
            self.server.resume()
            self.prepare(self.server)
        self.samples.append(measure(self.server, self.work))

    def median(self, what):
        return statistics.median(getattr(sample, what) for sample in self.samples)


def standing(goal, ratio):
    """"≥ 2.5" or "≤ 0.6", and whether it is reached."""
    if goal is None:
        return "–"
    sign, number = goal.split()
    reached = ratio >= float(number) if sign == "≥" else ratio <= float(number)
    return f"{goal} {'yes' if reached else 'NO'}"


class Table:
    def __init__(self, emit, options):
        self.emit, self.options = emit, options

    def head(self):
        self.emit(None, HEAD)

    def row(self, what, ours, peer, theirs, unit, goal=None, digits=0, more=None):
        """A row of two figures; without a peer `theirs` is None."""
        ratio = ours / theirs if theirs else None
        figures = {"row": what, "unit": unit, "ours": ours, "peer": peer, "theirs": theirs,
                   "ratio": ratio, "to_reach": goal, **(more or {})}
        text = [what, f"{ours:,.{digits}f} {unit}"]
        text += [f"{peer} {theirs:,.{digits}f} {unit}", f"{ratio:.2f}", standing(goal, ratio)] \
            if theirs else [peer, "–", "–"]
        self.emit(figures, "| " + " | ".join(text + self.details(figures)) + " |")

    def alone(self, what, ours, unit, digits=0):
        """A row of one figure."""
        self.row(what, ours, "–", None, unit, digits=digits)

    @staticmethod
    def details(figures):
        """Latencies and CPU, where they were measured."""
        if "our_cpu_us" not in figures:
            return ["–"] * 5
        ours, theirs = figures["our_cpu_us"], figures.get("their_cpu_us")
        return [f"{figures['our_p50_us']:,.0f} / {figures['our_p99_us']:,.0f}",
                f"{figures['their_p50_us']:,.0f} / {figures['their_p99_us']:,.0f}" if theirs else "–",
                f"{ours:.2f}", f"{theirs:.2f}" if theirs else "–",
                f"{ours / theirs:.2f}" if theirs else "–"]

    def compare(self, what, ours, peer, goal=None, figure="rate"):
        """Two sides in alternating rounds; `peer` may be None. Figures: rate, p50, p99."""
        sides = [side for side in (ours, peer) if side is not None]
        for _ in range(self.options.rounds):
            for side in sides:
                side.measure()
        self.show(what, ours, peer, goal, figure)

    def show(self, what, ours, peer, goal=None, figure="rate"):
        """The row of what was measured; of one measurement there may be several rows."""
        more = {"our_own_cpu_us": ours.median("own_cpu")}
        for prefix, side in (("our", ours), ("their", peer)):
            for name in ("p50", "p99", "cpu"):
                if side is not None:
                    more[f"{prefix}_{name}_us"] = side.median(name)
        self.row(what, ours.median(figure), peer.name if peer else "–",
                 peer.median(figure) if peer else None, "/s" if figure == "rate" else "us", goal,
                 more=more)

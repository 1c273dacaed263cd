"""Makes random autoscale formulas whose types are right."""

OPTIONS = ("requeue", "terminate", "taskcompletion", "retaineddata")
UNITS = ["Zero", "100ns", "Microsecond", "Millisecond", "Second", "Minute", "Hour", "Day", "Week", "Year"]


class Maker:
    """Makes formulas whose types are right."""

    def __init__(self, rng):
        self.rng, self.known = rng, {}

    def one(self, kind, depth):
        rng = self.rng
        mine = [name for name, each in self.known.items() if each == kind]
        if mine and rng.random() < 0.2:
            return rng.choice(mine)
        if depth > 0 and rng.random() < 0.1:
            return "(%s ? %s : %s)" % (self.one("number", depth - 1), self.one(kind, depth - 1), self.one(kind, depth - 1))
        return getattr(self, kind)(depth - 1 if depth > 0 else -1)

    def metric(self):
        return self.rng.choice(["$PendingTasks", "$ActiveTasks", "$CPUPercent", "$RunningTasks", "$FailedTasks"])

    def moments(self):
        one = self.one(self.rng.choice(["interval", "interval", "instant"]), 0)
        return one if self.rng.random() < 0.5 else one + ", " + self.one("interval", 0)

    def lists(self, depth):
        return ", ".join(self.one(self.rng.choice(["number", "vector"]), depth) for _ in range(self.rng.randint(1, 3)))

    def number(self, depth):
        rng = self.rng
        if depth < 0:
            return rng.choice(["0", "1", "2", "7", "0.5", "25", "1e3", "3.25", "$CurrentDedicatedNodes", "$TargetDedicatedNodes",
                               "$PendingTasks", "$CPUPercent", "$UsableNodeCount"])
        n = lambda: self.one("number", depth)
        return rng.choice([
            lambda: "%s %s %s" % (n(), rng.choice(["+", "-", "*", "/", "+", "-"]), n()),
            lambda: "%s %s %s" % (n(), rng.choice(["<", "<=", "==", ">=", ">", "!=", "&&", "||"]), n()),
            lambda: "(%s)" % n(),
            lambda: rng.choice(["-", "!"]) + "(%s)" % n(),
            lambda: "%s(%s)" % (rng.choice(["avg", "len", "max", "min", "norm", "range", "std", "sum"]), self.lists(depth)),
            lambda: "%s(%s)" % (rng.choice(["ceil", "floor", "round", "lg", "ln", "log"]), n()),
            lambda: "percentile(%s, %s)" % (self.one("vector", depth), rng.choice(["0", "50", "90", "100", n()])),
            lambda: "val(%s, %s)" % (self.one("vector", depth), rng.choice(["0", "1", "3.7", n()])),
            lambda: "rand()",
            lambda: "%s.%s" % (rng.choice(["time()", "(%s)" % self.one("instant", depth)]),
                               rng.choice(["year", "month", "day", "weekday", "hour", "minute", "second"])),
            lambda: "%s.GetSamplePercent(%s)" % (self.metric(), self.moments()),
            lambda: "%s.Count()" % self.metric(),
            lambda: "(%s %s %s)" % (self.one("interval", depth), rng.choice(["<", "<=", "==", ">=", ">", "!="]),
                                    self.one("interval", depth)),
            lambda: "(%s %s %s)" % (self.one("instant", depth), rng.choice(["<", "<=", "==", ">=", ">", "!="]),
                                    self.one("instant", depth)),
        ])()

    def vector(self, depth):
        rng, metric = self.rng, self.metric()
        plain = [
            lambda: "%s.GetSample(%s)" % (metric, rng.choice(["1", "4", "0", "1000"])),
            lambda: "%s.GetSample(%s)" % (metric, self.moments()),
            lambda: "%s.GetSample(%s, %s)" % (metric, self.moments(), rng.choice(["1", "50", "80"])),
        ]
        if depth < 0:
            return rng.choice(plain)()
        v, n = (lambda: self.one("vector", depth)), (lambda: "(%s)" % self.one("number", depth))
        return rng.choice(plain + [
            lambda: "%s %s %s" % (v(), rng.choice("+-*/"), n()),
            lambda: "%s %s %s" % (n(), rng.choice("+-*/"), v()),
            lambda: "%s %s %s" % (v(), rng.choice("+-*/"), v()),
            lambda: "%s(%s, %s)" % (rng.choice(["ceil", "floor", "round", "lg", "ln", "log"]), v(), n()),
        ])()

    def interval(self, depth):
        rng = self.rng
        unit = "TimeInterval_" + rng.choice(UNITS)
        minutes = "%d * TimeInterval_Minute" % rng.randint(0, 20)
        if depth < 0:
            return rng.choice([unit, minutes, minutes])
        i, n = (lambda: self.one("interval", depth)), (lambda: self.one("number", depth))
        return rng.choice([
            lambda: "(%s %s %s)" % (i(), rng.choice("+-"), i()),
            lambda: "(%s) * %s" % (n(), unit),
            lambda: "(%s) %s (%s)" % (i(), rng.choice("*/"), n()),
            lambda: "-(%s)" % i(),
            lambda: "(%s - %s)" % (self.one("instant", depth), self.one("instant", depth)),
            lambda: "$ActiveTasks.GetSamplePeriod()",
            lambda: minutes,
        ])()

    def instant(self, depth):
        rng = self.rng
        plain = ["time()", 'time("2026-03-01T12:30:00Z")', 'time("Thu, 26 Feb 2026 13:00:00 GMT")', 'time("2024-02-29")',
                 "$PendingTasks.HistoryBeginTime()", "$FailedTasks.HistoryBeginTime()"]
        if depth < 0 or rng.random() < 0.3:
            return rng.choice(plain)
        return rng.choice(["(%s + (%s))" % (self.one("instant", depth), self.one("interval", depth)),
                           "((%s) + %s)" % (self.one("interval", depth), self.one("instant", depth)),
                           "(%s - (%s))" % (self.one("instant", depth), self.one("interval", depth))])

    def formula(self):
        rng, lines = self.rng, []
        for n in range(rng.randint(1, 5)):
            kind = rng.choice(["number", "number", "number", "vector", "interval", "instant"])
            name = rng.choice(["$", ""]) + "v%d" % rng.randint(0, 4)
            expression = self.one(kind, rng.randint(0, 3))
            lines.append("%s = %s" % (name, expression))
            self.known = {k: v for k, v in self.known.items() if k.lstrip("$") != name.lstrip("$")}
            self.known[name] = kind
            if rng.random() < 0.03:
                lines.append("%s ? stop() : 0" % self.one("number", 1))
        target = rng.choice(["$TargetDedicatedNodes", "$TargetDedicated", "$TargetLowPriorityNodes", "$TargetLowPriority"])
        lines.append("%s = %s" % (target, self.one("number", 2)))
        if rng.random() < 0.3:
            lines.append("$NodeDeallocationOption = %s" % rng.choice(OPTIONS))
        return (";" + rng.choice([" ", "\n", " // next\n"])).join(lines) + rng.choice(["", ";"])

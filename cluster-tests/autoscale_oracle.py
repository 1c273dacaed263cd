#!/usr/bin/env python3
"""A second evaluator of autoscale formulas, to compare Muster's with.

It shares nothing with the first one, nor its method: a formula is cut at its weakest operator, again and again, until it has
become one Python expression, which Python then evaluates.

  autoscale_oracle.py answer INPUTS < FORMULAS      adds `expected` to each line of JSON with `formula` and `inputs`
  autoscale_oracle.py generate INPUTS SEED COUNT    writes random formulas whose types are right, with `expected`

INPUTS is a file of JSON: by name, what a formula looks at.
"""
import datetime
import json
import math
import random
import re
import sys
from decimal import ROUND_HALF_UP, Decimal

from autoscale_maker import Maker

EPOCH = datetime.datetime(1970, 1, 1)
TICKS = {"Zero": 0, "100ns": 1, "Microsecond": 10, "Millisecond": 10**4, "Second": 10**7, "Minute": 60 * 10**7,
         "Hour": 3600 * 10**7, "Day": 86400 * 10**7, "Week": 7 * 86400 * 10**7, "Year": 365 * 86400 * 10**7}
OPTIONS = ("requeue", "terminate", "taskcompletion", "retaineddata")
SERVICE = {"$TargetDedicated": "$TargetDedicatedNodes", "$TargetLowPriority": "$TargetLowPriorityNodes"}
METRICS = ("CPUPercent WallClockSeconds MemoryBytes DiskBytes DiskReadBytes DiskWriteBytes DiskReadOps DiskWriteOps "
           "NetworkInBytes NetworkOutBytes SampleNodeCount ActiveTasks RunningTasks PendingTasks SucceededTasks FailedTasks "
           "CurrentDedicatedNodes CurrentLowPriorityNodes PreemptedNodeCount UsableNodeCount TaskSlotsPerNode").split()


class Fails(Exception):
    """The evaluation fails with this code."""


class Stops(Exception):
    """The formula said stop()."""


class Span(int):
    """An interval in ticks."""


class Moment(int):
    """An instant in ticks since 1970."""


# ---- from a formula to Python -------------------------------------------------------------------------------------------

WORD = re.compile(r"\s+|//[^\n]*|(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|\"[^\"]*\"|\$?[A-Za-z_]\w*|\|\||&&|[=!<>]=|[-+*/!?:(),.=<>;])")
LEVELS = [["||"], ["&&"], ["==", "!="], ["<", "<=", ">", ">="], ["+", "-"], ["*", "/"]]


def words(formula):
    found, at = [], 0
    while at < len(formula):
        match = WORD.match(formula, at)
        assert match, formula[at:]
        if match.group(1):
            found.append(match.group(1))
        at = match.end()
    return found


def cut(tokens, wanted):
    """The parts between the signs `wanted` that stand outside of all parentheses."""
    parts, depth = [[]], 0
    for token in tokens:
        depth += (token == "(") - (token == ")")
        if depth == 0 and token == wanted:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def is_value(token):
    return token == ")" or token[0] in '"$_' or token[0].isalnum()


def python(tokens):
    """The Python expression that these tokens mean."""
    depth, question, open_questions = 0, None, 0
    for at, token in enumerate(tokens):
        depth += (token == "(") - (token == ")")
        if depth == 0 and token == "?":
            question = at if question is None else question
            open_questions += 1
        elif depth == 0 and token == ":":
            open_questions -= 1
            if open_questions == 0:
                return "choose(%s, lambda: %s, lambda: %s)" % (
                    python(tokens[:question]), python(tokens[question + 1:at]), python(tokens[at + 1:]))
    for level in LEVELS:
        depth = 0
        for at in range(len(tokens) - 1, 0, -1):
            token = tokens[at]
            depth += (token == ")") - (token == "(")
            if depth == 0 and token in level and is_value(tokens[at - 1]):
                left, right = python(tokens[:at]), python(tokens[at + 1:])
                if token in ("&&", "||"):
                    return "both(%r, %s, lambda: %s)" % (token, left, right)
                return "op(%r, %s, %s)" % (token, left, right)
    if tokens[0] in ("-", "!"):
        return "sign(%r, %s)" % (tokens[0], python(tokens[1:]))
    depth = 0
    for at in range(len(tokens) - 1, 0, -1):
        depth += (tokens[at] == ")") - (tokens[at] == "(")
        if depth == 0 and tokens[at] == ".":
            if at + 2 < len(tokens):
                return "method(%r, %r, [%s])" % (tokens[at - 1], tokens[at + 1], arguments(tokens[at + 3:-1]))
            return "member(%s, %r)" % (python(tokens[:at]), tokens[at + 1])
    if tokens[0] == "(":
        return python(tokens[1:-1])
    if len(tokens) > 1:
        return "call(%r, [%s])" % (tokens[0], arguments(tokens[2:-1]))
    word = tokens[0]
    if word[0] == '"':
        return repr(word[1:-1])
    if word[0].isdigit():
        return "float(%r)" % word
    return "name(%r)" % word


def arguments(tokens):
    return ", ".join(python(part) for part in cut(tokens, ",")) if tokens else ""


# ---- what the words mean ------------------------------------------------------------------------------------------------

def nearest(number):
    if math.isnan(number) or abs(number) >= 2.0**63:
        raise Fails("ArithmeticOverflow")
    return int(Decimal(number).to_integral_value(ROUND_HALF_UP))


def in_range(ticks):
    if not -2**63 <= ticks < 2**63:
        raise Fails("ArithmeticOverflow")
    return ticks


def moment(ticks):
    if not -621355968000000000 <= ticks < 2533707648000000000:
        raise Fails("ArithmeticOverflow")
    return Moment(ticks)


def plain(sign, a, b):
    if sign == "/":
        if b == 0:
            return math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1, b)
        return a / b
    return {"+": lambda: a + b, "-": lambda: a - b, "*": lambda: a * b}[sign]()


def compared(sign, a, b):
    return float({"<": a < b, "<=": a <= b, "==": a == b, ">=": a >= b, ">": a > b, "!=": a != b}[sign])


def op(sign, a, b):
    kinds = (type(a), type(b))
    if sign not in "+-*/":
        return compared(sign, a, b)
    if list in kinds:
        if kinds == (list, list) and len(a) != len(b):
            raise Fails("VectorLengthsDiffer")
        count = len(a) if kinds[0] is list else len(b)
        wide = lambda x: x if isinstance(x, list) else [x] * count
        return [plain(sign, x, y) for x, y in zip(wide(a), wide(b))]
    if kinds == (float, float):
        return plain(sign, a, b)
    if kinds == (Moment, Moment):
        return Span(in_range(int(a) - int(b)))
    if Moment in kinds:
        total = int(a) + int(b) if sign == "+" else int(a) - int(b)
        return moment(in_range(total))
    if kinds == (Span, Span):
        return Span(in_range(int(a) + int(b) if sign == "+" else int(a) - int(b)))
    return Span(nearest(plain(sign, float(a), float(b))))


def sign(which, value):
    if which == "!":
        return float(value == 0)
    return Span(in_range(-int(value))) if isinstance(value, Span) else -value


def date(text):
    text = text.strip()
    for form in ("%a, %d %b %Y %H:%M:%S GMT", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d", "%Y-%m-%dT%H:%M:%S.%fZ"):
        try:
            return moment((datetime.datetime.strptime(text, form) - EPOCH) // datetime.timedelta(microseconds=1) * 10)
        except ValueError:
            pass
    raise Fails("InvalidDateTime")


def member(value, which):
    when = EPOCH + datetime.timedelta(microseconds=int(value) // 10)
    return float(when.isoweekday() % 7 if which == "weekday" else getattr(when, which))


def logarithm(function):
    def safe(x):
        if math.isnan(x) or x < 0:
            return math.nan
        return -math.inf if x == 0 else function(x)
    return safe


def half_away(x):
    return x if math.isinf(x) or math.isnan(x) else float(Decimal(x).to_integral_value(ROUND_HALF_UP))


def whole(function):
    return lambda x: x if math.isinf(x) or math.isnan(x) else float(function(x))


EACH = {"ceil": whole(math.ceil), "floor": whole(math.floor), "round": half_away, "lg": logarithm(math.log2),
        "ln": logarithm(math.log), "log": logarithm(math.log10)}


class Run:
    """One evaluation."""

    def __init__(self, inputs):
        self.inputs, self.own, self.chance = inputs, {}, inputs["seed"]
        self.now = Moment(inputs["now"] * 10)

    def history(self, metric):
        return self.inputs["metrics"].get(metric.lstrip("$"), {"current": 0, "samples": []})

    def name(self, word):
        if word.startswith("TimeInterval_"):
            return Span(TICKS[word[13:]])
        if word in OPTIONS:
            return word
        if word.startswith("$") and word[1:] in METRICS:
            return float(self.history(word)["current"])
        full = SERVICE.get(word, word)
        if full == "$NodeDeallocationOption":
            return self.own.get(full, "requeue")
        if full in ("$TargetDedicatedNodes", "$TargetLowPriorityNodes"):
            other = {"$TargetDedicatedNodes": "$TargetDedicated", "$TargetLowPriorityNodes": "$TargetLowPriority"}[full]
            before = self.inputs["dedicated" if "Dedicated" in full else "low_priority"]
            return self.own.get(full, self.own.get(other, float(before)))
        return self.own["$" + word.lstrip("$")]

    def set(self, word, value):
        self.own[word if word in SERVICE else "$" + word.lstrip("$")] = value

    def choose(self, condition, yes, no):
        return no() if condition == 0 else yes()

    def both(self, which, left, right):
        if which == "&&":
            return float(left != 0 and right() != 0)
        return float(left != 0 or right() != 0)

    def rand(self):
        mask = 2**64 - 1
        self.chance = (self.chance + 0x9E3779B97F4A7C15) & mask
        z = self.chance
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return ((z ^ (z >> 31)) >> 11) / 2**53

    def call(self, function, values):
        if function == "stop":
            raise Stops()
        if function == "rand":
            return self.rand()
        if function == "time":
            return date(values[0]) if values else self.now
        if function == "val":
            index = values[1]
            if not -1 < index < len(values[0]):
                raise Fails("IndexOutOfRange")
            return values[0][math.trunc(index)]
        if function == "percentile":
            if not 0 <= values[1] <= 100:
                raise Fails("InvalidArgument")
            if not values[0]:
                raise Fails("EmptyVector")
            return sorted(values[0], key=lambda x: (math.isnan(x), x))[max(1, math.ceil(values[1] * len(values[0]) / 100)) - 1]
        if function in EACH:
            if len(values) == 1 and isinstance(values[0], float):
                return EACH[function](values[0])
            return [EACH[function](x) for x in self.flat(values)]
        flat = self.flat(values)
        if function in ("len", "sum", "norm"):
            return {"len": lambda: float(len(flat)), "sum": lambda: total(flat),
                    "norm": lambda: math.sqrt(total([x * x for x in flat]))}[function]()
        if not flat:
            raise Fails("EmptyVector")
        mean = total(flat) / len(flat)
        number = [x for x in flat if not math.isnan(x)]
        high, low = max(number, default=-math.inf), min(number, default=math.inf)
        return {"avg": lambda: mean, "max": lambda: high, "min": lambda: low, "range": lambda: high - low,
                "std": lambda: 0.0 if len(flat) == 1 else
                math.sqrt(total([(x - mean) * (x - mean) for x in flat]) / (len(flat) - 1))}[function]()

    @staticmethod
    def flat(values):
        return [x for value in values for x in (value if isinstance(value, list) else [value])]

    def method(self, metric, which, values):
        samples = self.history(metric)["samples"]
        if which == "GetSamplePeriod":
            return Span(30 * 10**7)
        if which == "Count":
            return float(len(samples))
        if which == "HistoryBeginTime":
            return Moment(samples[0][0] * 10) if samples else self.now
        if which == "GetSample" and len(values) == 1 and isinstance(values[0], float):
            if not values[0] >= 0:
                raise Fails("InvalidArgument")
            return [float(v) for _, v in samples[max(0, len(samples) - math.trunc(min(values[0], 1e9))):]]
        wanted = values.pop() if isinstance(values[-1], float) else 0.0
        ends = [moment(in_range(int(self.now) - int(v))) if isinstance(v, Span) else v for v in values] + [self.now]
        begin, end = min(ends[:2]), max(ends[:2])
        inside = [float(v) for at, v in samples if begin < at * 10 <= end]
        possible = max(1, (end - begin) // (30 * 10**7))
        percent = min(100.0, 100.0 * len(inside) / possible)
        if which == "GetSamplePercent":
            return percent
        if percent < wanted:
            raise Fails("InsufficientSampleData")
        return inside


def total(numbers):
    result = 0.0
    for number in numbers:
        result += number
    return result


def told(value):
    """A value as JSON."""
    if isinstance(value, Moment):
        return {"instant": int(value)}
    if isinstance(value, Span):
        return {"interval": int(value)}
    if isinstance(value, str):
        return {"text": value}
    number = lambda x: x if math.isfinite(x) else str(x)
    return {"vector": [number(x) for x in value]} if isinstance(value, list) else {"number": number(value)}


def nodes(value):
    if math.isnan(value) or value > 1e9:
        raise Fails("InvalidTarget")
    return int(Decimal(max(0.0, value)).to_integral_value(ROUND_HALF_UP))


def evaluate(formula, inputs):
    """What evaluating gives: the user's variables, and the targets or the code of an error."""
    run = Run(inputs)
    scope = {"op": op, "sign": sign, "member": member, "float": float}
    scope.update({each: getattr(run, each) for each in ("name", "choose", "both", "call", "method")})
    result = {}
    try:
        try:
            for statement in cut(words(formula), ";"):
                if not statement:
                    continue
                if len(statement) > 1 and statement[1] == "=":
                    run.set(statement[0], eval(python(statement[2:]), scope))
                else:
                    eval(python(statement), scope)
        except Stops:
            pass
        for key, full in (("dedicated", "$TargetDedicatedNodes"), ("low_priority", "$TargetLowPriorityNodes")):
            short = full[:-5]
            if full in run.own or short in run.own:
                result[key] = nodes(run.own.get(full, run.own.get(short)))
        result["deallocation"] = run.own.get("$NodeDeallocationOption", "requeue")
        if result["deallocation"] not in OPTIONS:
            raise Fails("InvalidNodeDeallocationOption")
    except Fails as code:
        result = {"error": str(code)}
    result["variables"] = {k: told(v) for k, v in sorted(run.own.items())
                           if "$NodeDeallocationOption" != k and k not in SERVICE and k not in SERVICE.values()}
    return result


def main():
    with open(sys.argv[2], encoding="utf-8") as file:
        inputs = json.load(file)
    if sys.argv[1] == "generate":
        rng = random.Random(int(sys.argv[3]))
        cases = [{"inputs": rng.choice(sorted(inputs)), "formula": Maker(rng).formula()} for _ in range(int(sys.argv[4]))]
    else:
        cases = [json.loads(line) for line in sys.stdin]
    for case in cases:
        case["expected"] = evaluate(case["formula"], inputs[case["inputs"]])
        print(json.dumps(case))


if __name__ == "__main__":
    main()

"""Bodies and query strings: valid, mutated and hostile ones, from one seed."""

import json
import random

# JSON tokens that are read in unlike ways by unlike parsers, or stand at an edge of a rule.
NUMBERS = """0 1 -1 2 3 5 7 9 10 11 1.0 2.0 0.5 0.25 0.250001 1.5 -0 -0.0 1e2 1E+2 1e-400 1e400 -1e400 1e308 1e16 1e15
90 90.0000001 -90.5 180 -180.00001 127 128 -128 -129 255 256 32767 32768 65504 65519.9 65520 65535 65536 999 1000 1001
2147483647 2147483648 -2147483649 4294967295 4294967296 9007199254740993 9223372036854774784.0 9223372036854775807
9223372036854775808 -9223372036854775808 -9223372036854775809 9223372036854775808.0 18446744073709551615
18446744073709551616 1e19 1e30 3.4028234663852886e38 3.4028235e38 3.4028236e38 -3.4028236e38 1e39 3.3895313892515355e38
3.4e38 1.7976931348623157e308 0.1 0.30000000000000004 123456789.123456789 5e-324 2.2250738585072011e-308 NaN Infinity
-Infinity 1000000000000000000000000000000 0.000001 1e-7 12345678901234567890123.5 6.02214076e23""".split()
NUMBERS += ["1" * 40, "1" * 309, "1" * 310, "-" + "9" * 400, "1" * 4300, "1" * 4301, "9" * 5000, "0." + "1" * 400]
TEXTS = [
    "", " ", "a", "ab", "abc", "abcde", "abcdef", " 3 ", "3\n", "+3", ".5", "5.", "1e3", "3_000", "1__0", "_1", "1_",
    "0x10", "1,5", "true", "True", "TRUE", "false", "on", "off", "yes", "no", "y", "n", "t", "f", "T", "0", "1", "2",
    "-1", "007", "-007", "1.0", "1.50", "00.00", "-0", "--1", "+-1", "-+1", "1.", "1e", "e1", "NaN", "nan", "inf",
    "-inf", "Infinity", "1e400", "infinit", "\u0663", "\u00b2", "\uff11", "\u2003 4\u2003", "\x1f5", "0_0", "0_", "-1_000", "+1_0.0",
    "red", "RED", "it's", "two\nlines", "a12", "ab1", "xßy99z", "none", "NEGATIVE", "I love you!", "\x00", "\u2028",
    "\U0001f600" * 3, "e\u0301", "\u05d0\u05d1", "null", "[1]", "{}", "91", "-91", "1000", "1001", "128", "65520", "1e39",
    "9223372036854775808", "18446744073709551615", "12345678901234567890", "1" * 4299, "1" * 4300, "1" * 4301, " " + "2" * 4301,
    "0" * 5000, "x" * 300, "é" * 200, "x" * 3000, "\t1\t", "1 2", "0b1", "1f", "1d0", "0.1e1_0", "1_0e1", "a", "b", "up",
]
RAW_TEXTS = [
    r'"\ud800"', r'"\udc00x"', r'"a\ud83d\ude00"', r'"\ud83d\ud83d\ude00"', r'"\u0041\n\/\b"', r'"\u0031"', r'"\t7"', r'"\u00e9"', r'"\uD83D\u0041"',
]
OTHERS = ["true", "false", "null", "[]", "{}", "[1]", "[1,2]", "[1,2,3]", "[[1,2,3],[4,5,6]]", "[[1,2],[3,4],[5,6]]", '["a"]', "[null]", "[true,false]", '{"a":1}', '{"a":{"b":[1,{"c":null}]}}', "[NaN]", '{"x":1,"x":2}', '[[[[]]]]', '["1","2"]', "[1.5,2.5,3.5]", '["abcd"]']
BROKEN = ["", "tru", "nul", "NaNN", "Infinit", "-Inf", "-", "+1", "01", "-01", "1.", ".5", "1e", "1e+", "1.e3", "0x1", "'a'", '"', '"a', '"\\x"', '"\\u12"', '"\\u12G4"', '"\\ud800\\u12"', '"\\ud800\\uZZZZ"', '"\\', '"\t"', '"a\nb"', "[", "]", "{", "}", "[1,", "[1,]", "[,1]", "[1 2]", '{"a"', '{"a":', '{"a":1,}', '{"a" 1}', "{1:2}", "{a:1}", '{"a":1 "b":2}', "undefined", "None", "//x", "/**/1", "\u00a01", "\x00", "1 1", "nan", "1_000", '"\\u00e9', '"é', "[1]]", '{"a":1}}', ",", ":", "tRue"]
DEEP = ["[" * n + "]" * n for n in (10, 55, 70, 200)] + ['{"a":' * n + "1" + "}" * n for n in (20, 66)] + ["[" * 100_000, "[" * 3000 + "]" * 3000]


def dumps(value):
    return json.dumps(value, ensure_ascii=False)


class Bodies:
    """A source of bodies for one schema."""

    def __init__(self, schema, seed):
        self.schema = schema
        self.rng = random.Random(seed)

    def number(self, field):
        low = field.get("ge", field.get("gt", -3))
        high = field.get("le", field.get("lt", low + 8))
        whole = "int" in field["dtype"]
        low, high = max(low, 0 if field["dtype"].startswith("u") else -128), min(high, 127)
        if whole:
            return str(self.rng.randint(int(low) + ("gt" in field), int(high) - ("lt" in field)))
        x = self.rng.uniform(low + 1e-3, high - 1e-3)
        return self.rng.choice([repr(x), f"{x:.2f}", f"{x:.4f}", str(int(high))])

    def scalar(self, field):
        """A valid value's token."""
        rng, dtype = self.rng, field["dtype"]
        if field.get("nullable") and rng.random() < 0.2:
            return "null"
        if "enum" in field:
            return dumps(rng.choice(field["enum"]))
        if dtype == "bool":
            return rng.choice(["true", "false"])
        if dtype != "string":
            return self.number(field)
        if "pattern" in field:
            return dumps(rng.choice(["a12", "zzß99", "b00x"]))
        return dumps(rng.choice(["a", "abc", "é", "x y", "1"])[: field.get("max_length", 9)])

    def value(self, field, shape=None):
        shape = field.get("shape", []) if shape is None else shape
        if not shape:
            return self.scalar(field)
        # One length in most requests; now and then a ragged one.
        length = shape[0] if shape[0] is not None else self.open_length
        if shape[0] is None and self.rng.random() < 0.03:
            length += 1
        return "[" + ",".join(self.value(field, shape[1:]) for _ in range(length)) + "]"

    def odd(self):
        """A token that is valid JSON to Python, but maybe no valid value."""
        rng = self.rng
        pick = rng.random()
        if pick < 0.4:
            return rng.choice(NUMBERS)
        if pick < 0.75:
            return dumps(rng.choice(TEXTS))
        return rng.choice(RAW_TEXTS) if pick < 0.82 else rng.choice(OTHERS)

    def pairs(self):
        fields = self.schema["fields"]
        pairs = []
        for field in fields:
            if "default" in field and self.rng.random() < 0.3:
                continue
            key = self.rng.choice([field["name"], *field.get("alias", [])]) if self.rng.random() < 0.3 else field["name"]
            pairs.append([dumps(key), self.value(field)])
        return pairs

    def spoil(self, pairs):
        """One change to the keys or values of an object."""
        rng = self.rng
        change = rng.randrange(10)
        names = [key for f in self.schema["fields"] for key in [f["name"], *f.get("alias", [])]]
        at = rng.randrange(len(pairs)) if pairs else None
        if change < 5 and pairs:
            pairs[at][1] = self.odd()
        elif change == 5 and pairs:
            del pairs[at]
        elif change == 6:
            extra = rng.choice(["extra", "", "MedInc ", "é", "x" * 300, "__proto__", "0", rng.choice(names).upper(), "instances"])
            pairs.insert(rng.randrange(len(pairs) + 1), [dumps(extra), self.odd()])
        elif change == 7 and pairs:
            again = rng.choice(pairs)
            pairs.insert(rng.randrange(len(pairs) + 1), [again[0], rng.choice([again[1], self.odd()])])
        elif change == 8:
            pairs.insert(rng.randrange(len(pairs) + 1), [dumps(rng.choice(names)), self.odd()])
        elif pairs:
            key = json.loads(pairs[at][0])
            if key:
                pairs[at][0] = '"' + "".join(f"\\u{ord(c):04x}" if ord(c) < 0x10000 else c for c in key) + '"'
            rng.shuffle(pairs)

    def object(self, pairs):
        return "{" + ",".join(f"{key}:{value}" for key, value in pairs) + "}"

    def row(self, spoiled):
        pairs = self.pairs()
        for _ in range(spoiled):
            self.spoil(pairs)
        return self.object(pairs)

    def top(self, pairs, spoiled):
        """An object around lists, with its own mistakes."""
        rng = self.rng
        if spoiled and rng.random() < 0.25:
            change = rng.randrange(5)
            if change == 0:
                pairs.append(['"extra"', self.odd()])
            elif change == 1:
                pairs.pop(rng.randrange(len(pairs)))
            elif change == 2:
                rng.choice(pairs)[1] = self.odd()
            elif change == 3:
                pairs.append([rng.choice(pairs)[0], self.odd()])
            else:
                pairs.insert(0, ['"\\u0065xtra"', self.odd()])
        return self.object(pairs)

    def body(self, spoiled):
        rng, shape = self.rng, self.schema["shape"]
        self.open_length = rng.randrange(4)
        if shape["kind"] == "row":
            return self.row(spoiled)
        most = shape["max_rows"]
        count = rng.choice([0, 1, 2, 3, 5]) if rng.random() < 0.97 else most + rng.randrange(3)
        if shape["kind"] == "rows":
            rows = [self.row(rng.randrange(spoiled + 1)) for _ in range(count)]
            if spoiled and rows and rng.random() < 0.15:
                rows[rng.randrange(len(rows))] = self.odd()
            return self.top([[dumps(shape["key"]), "[" + ",".join(rows) + "]"]], spoiled)
        by_name = {f["name"]: f for f in self.schema["fields"]}
        pairs = []
        for key, name in shape["keys"].items():
            n = count + (rng.random() < 0.05)
            cells = [self.value(by_name[name]) for _ in range(n)]
            for _ in range(spoiled if cells else 0):
                if rng.random() < 0.5:
                    cells[rng.randrange(n)] = self.odd()
            pairs.append([dumps(key), "[" + ",".join(cells) + "]"])
        return self.top(pairs, spoiled)

    def with_token(self, name, token):
        """A valid body but for the value of one field."""
        pairs = self.pairs()
        pairs = [[dumps(name), token]] + [p for p in pairs if p[0] not in self.keys_of(name)]
        shape = self.schema["shape"]
        row = self.object(pairs)
        return row if shape["kind"] == "row" else self.object([[dumps(shape["key"]), f"[{row}]"]])

    def keys_of(self, name):
        field = next(f for f in self.schema["fields"] if f["name"] == name)
        return [dumps(key) for key in [name, *field.get("alias", [])]]

    def damaged(self):
        """A body with a mistake in its text."""
        rng = self.rng
        text = self.body(rng.randrange(2))
        at = rng.randrange(len(text) + 1)
        change = rng.randrange(9)
        if change == 0:
            text = text[:at]
        elif change == 1:
            text = text[:at] + text[at + 1 :]
        elif change == 2:
            text = text[:at] + rng.choice(list('{}[]",:\\ \t\n0-+.eEx\x00\x1f\u00a0é\U0001f600/')) + text[at:]
        elif change == 3:
            marks = [i for i, c in enumerate(text) if c in ":,["]
            at = rng.choice(marks) + 1 if marks else at
            text = text[:at] + rng.choice(BROKEN) + text[at:]
        elif change == 4:
            text = rng.choice(["", " ", "\n", "x", "\ufeff", "{}", "//\n"]) + text + rng.choice(["x", " ", "\n\t", "{}", ",", "null", "\x00"])
        elif change == 5:
            text = text.replace(",", " ,\n\t", rng.randrange(1, 4)).replace(":", " :\r ", rng.randrange(3))
        elif change == 6:
            text = text.replace('"', "'", rng.randrange(1, 3))
        elif change == 7:
            text = text.replace("}", ",}", 1) if rng.random() < 0.5 else text.replace("]", ",]", 1)
        else:
            data = bytearray(text.encode())
            for _ in range(rng.randrange(1, 4)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            return bytes(data)
        return text.encode("utf-8")


def whole_bodies():
    """Bodies that are no object at all, or not even JSON: the same for every schema."""
    texts = ["", " ", "\n\t\r ", "null", "true", "[]", "{}", "[{}]", '"text"', "1", "1.5", "NaN", "-Infinity", "\x00", "{", "}", '{"', "\u00a0{}", "{}\u00a0", " {} ", "[1,2", '{"a":1,}', "[1,]"]
    texts += BROKEN + DEEP + NUMBERS[-9:] + RAW_TEXTS + [dumps(t) for t in TEXTS[:5] + TEXTS[-20:]]
    bodies = [text.encode("utf-8", "surrogatepass") for text in texts]
    bodies += [b"\xef\xbb\xbf{}", b"\xef\xbb\xbf", b"\xef\xbb\xbf\xef\xbb\xbf{}", b"\xff", b'{"a":"\xff"}', b'"\xed\xa0\x80"', b"\xc0\x80", b"\xfe\xff\x00{\x00}", b"{\x00}\x00", b"\x00{\x00}"]
    return bodies


def cases_of(name, schema, seed, count):
    source = Bodies(schema, seed)
    for body in whole_bodies():
        yield body
    for i in range(count):
        part = i % 10
        if part < 3:
            yield source.body(0).encode("utf-8", "surrogatepass")
        elif part < 8:
            yield source.body(1 + i % 3).encode("utf-8", "surrogatepass")
        else:
            yield source.damaged()
    # Every odd token in every field.
    if schema["shape"]["kind"] != "columns" and name not in ("houses", "many", "nothing"):
        for field in schema["fields"]:
            for token in [*NUMBERS, *map(dumps, TEXTS), *RAW_TEXTS, *OTHERS]:
                source.open_length = 1
                yield source.with_token(field["name"], token).encode()
    # More errors than are told.
    if name == "many":
        for count, row in ((50, "{}"), (51, "{}"), (99, '{"x":"a","y":1}'), (100, '{"x":"a","y":1}'), (101, '{"x":"a","y":1}'), (300, '{"y":300,"z":[1]}')):
            yield f'{{"rows":[{",".join([row] * count)}]}}'.encode()
        yield (f'{{"rows":[{",".join(["1"] * 401)}]}}').encode()
        yield ('{"rows":[],' + ",".join(f'"k{i}":{i}' for i in range(150)) + "}").encode()
    # Deep values within a row: ignored fields count too.
    for deep in DEEP:
        yield source.object([*source.pairs(), ['"deep"', deep]]).encode()


def queries(params, seed, count):
    rng = random.Random(seed)
    names = [p["name"] for p in params] + ["other", ""]
    values = ["", "a", "ab", "up", "down", "a b", "a+b", "%zz", "%ff", "%C3%A9", "%", "%4", "1", "0", "100", "101", "1.5", "true", "off", "%20%31", "1;2", "a=b", "x" * 400, "é", "+1", "inf", "1_0", "%2B1", "%00", "%ED%A0%80", "a%26b", "2e1", "nan"]
    fixed = ["", "name", "name=", "name=%zz", "name=%ff", "name=a&name=b", "name=a;name=b", "&&name=a&&", "=a", "name==a", "NAME=a", "n%61me=x"]
    yield from fixed
    for _ in range(count):
        pairs = [rng.choice(names) + rng.choice(["=", "=", "=", ""]) + rng.choice(values) for _ in range(rng.randrange(6))]
        yield rng.choice(["&", "&", "&", "&&", ";"]).join(pairs)

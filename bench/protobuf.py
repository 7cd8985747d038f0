"""As much of protobuf as the bench needs: one message written, one field read.

By hand, so that the bench needs no package for it; that the server understands clients which
nobody here wrote is for tests/v2clients to show. Field numbers are those of
crates/weir-api/proto/grpc_service.proto.
"""

VARINT, BYTES = 0, 2


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number, content):
    """A field of bytes, text or a message."""
    content = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | BYTES) + varint(len(content)) + content


def infer_request(model, name, datatype, shape, output, raw):
    """A `ModelInferRequest` with one input, one output asked for, and the input's raw bytes."""
    tensor = field(1, name) + field(2, datatype) + field(3, b"".join(map(varint, shape)))
    return field(1, model) + field(5, tensor) + field(6, field(1, output)) + field(7, raw)


def read_varint(rest):
    value = shift = 0
    for at, byte in enumerate(rest):
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, rest[at + 1:]
    raise ValueError("a number is cut off")


def fields(rest):
    """Number and content of the fields of a message that has numbers and bytes only."""
    while rest:
        key, rest = read_varint(rest)
        value, rest = read_varint(rest)
        if key & 7 == BYTES:
            value, rest = rest[:value], rest[value:]
        yield key >> 3, value


def first_raw_output(message):
    """Of a `ModelInferResponse`."""
    return next(content for number, content in fields(message) if number == 6)

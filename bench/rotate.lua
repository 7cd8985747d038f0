-- Sends the bodies of a file in turn: a server that sees the same body again and again is faster
-- than any real one. In the file each body is a line with its length, its bytes and a line feed.
-- Arguments: the file, then headers as `name: value`. Prints one JSON line at the end.
local requests = {}
local at = 0

function init(arguments)
    local headers = {}
    for number = 2, #arguments do
        local name, value = arguments[number]:match("^([^:]+): (.*)$")
        headers[name] = value
    end
    local file = assert(io.open(arguments[1], "rb"))
    for line in file:lines() do
        local body = file:read(tonumber(line)) or ""
        assert(#body == tonumber(line) and file:read(1) == "\n", "a body is cut off")
        requests[#requests + 1] = wrk.format("POST", nil, headers, body)
    end
    file:close()
end

function request()
    at = at % #requests + 1
    return requests[at]
end

function done(summary, latency)
    local e = summary.errors
    io.write(string.format(
        'RESULT {"requests": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, "failed": %d}\n',
        summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
        e.connect + e.read + e.write + e.status + e.timeout))
end

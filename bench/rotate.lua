-- Sends the bodies of a file (one JSON document a line) in turn: a server that sees the
-- same body again and again is faster than any real one. Prints one JSON line at the end.
local requests = {}
local at = 0

function init(arguments)
    local headers = { ["content-type"] = "application/json" }
    for body in io.lines(arguments[1]) do
        requests[#requests + 1] = wrk.format("POST", nil, headers, body)
    end
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

-- The one request of the load test, and a report of it that a program can read.

wrk.method = "POST"
wrk.body = '{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hello"}]}'
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer " .. os.getenv("BENCH_TOKEN")
wrk.headers["Origin"] = os.getenv("BENCH_ORIGIN")

-- Milliseconds that a connection waits before each request; without it, as fast as it goes.
local pause = os.getenv("BENCH_PAUSE_MS")
if pause then
  function delay()
    return tonumber(pause)
  end
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'REPORT {"requests":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,' ..
    '"refused":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.status, errors.connect, errors.read, errors.write, errors.timeout))
end

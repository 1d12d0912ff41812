-- POST a new object each time. Environment: BENCH_TOKEN, BENCH_PATH, BENCH_KIND (ConfigMap or Pod), BENCH_RUN (name prefix).
local token, path, kind, run = os.getenv("BENCH_TOKEN"), os.getenv("BENCH_PATH"), os.getenv("BENCH_KIND"), os.getenv("BENCH_RUN")
local headers = { ["Content-Type"] = "application/json", ["Authorization"] = "Bearer " .. token }
local bodies = {
  ConfigMap = '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"%s"},"data":{"colour":"blue","text":"a value of some forty characters in all"}}',
  Pod = '{"apiVersion":"v1","kind":"Pod","metadata":{"name":"%s","labels":{"app":"bench"}},"spec":{"schedulerName":"nobody","containers":[{"name":"main",'
    .. '"image":"nginx:1.27","ports":[{"containerPort":80}],"resources":{"requests":{"cpu":"10m","memory":"16Mi"}}}]}}',
}
local thread_count, made = 0, 0
function setup(thread)
  thread:set("number", thread_count)
  thread_count = thread_count + 1
end
function request()
  made = made + 1
  return wrk.format("POST", path, headers, string.format(bodies[kind], run .. "-" .. number .. "-" .. made))
end
function done(summary, latency)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d %d\n", summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.status, e.connect + e.read + e.write + e.timeout))
end

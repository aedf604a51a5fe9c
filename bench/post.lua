-- The load of the HTTP benchmarks: POST with a JSON body of exactly 500 bytes, the same each time, so that wrk itself
-- costs as little as it can. Prints the figures as one line of JSON after wrk's own text.

local function body_of(bytes)
  local head = '{"event":"order.created","shop":"example","digest":"'
  local tail = '"}'
  local digits = {}
  local seed = 17
  for i = 1, bytes - #head - #tail do
    seed = (seed * 1103515245 + 12345) % 2147483648
    digits[i] = string.format("%x", math.floor(seed / 65536) % 16)
  end
  return head .. table.concat(digits) .. tail
end

wrk.method = "POST"
wrk.body = body_of(500)
wrk.headers["Content-Type"] = "application/json"

function done(summary, latency, requests)
  local refused = summary.errors.status -- answers from 400 up: not acknowledged, so they count for nothing
  local failed = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  local accepted = summary.requests - refused
  io.write(string.format(
    '{"per_second":%.1f,"accepted":%d,"not_ok":%d,"p50_ms":%.3f,"p99_ms":%.3f,"p999_ms":%.3f}\n',
    accepted / (summary.duration / 1e6), accepted, refused + failed,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency:percentile(99.9) / 1e3))
end

-- Batches in the form of Datadog's log API (v2): an array of objects with `message`, `ddsource`, `service`, `ddtags`.
function TransformBatch(messages, request)
  local logs = {}
  for _, message in ipairs(messages) do
    local event = json_decode(message)
    table.insert(logs, json_encode({
      message = event.body,
      ddsource = "replayforge",
      service = event.path:match("^/([^/]+)") or "unknown",
      ddtags = "env:" .. (os.getenv("DD_ENV") or "none"),
    }))
  end
  request.path = "/api/v2/logs"
  request.headers["DD-API-KEY"] = os.getenv("DD_API_KEY")
  return logs, request
end

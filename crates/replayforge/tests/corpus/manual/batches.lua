-- The script of a sink: a batch takes the form that an API wants, with its path and headers.
local sent = 0

function TransformBatch(messages, request)
  local result = {}
  for i, message in ipairs(messages) do
    local event = json_decode(message)
    if event and event.body and #event.body > 0 then
      result[#result + 1] = json_encode({ message = event.body, ddsource = "replay", index = i })
    end
  end
  sent = sent + #result
  request.path = "api/v2/logs?total=" .. sent
  request.headers["DD-API-KEY"] = os.getenv("DD_API_KEY")
  request.headers["X-Count"] = tostring(#result)
  return result, request
end

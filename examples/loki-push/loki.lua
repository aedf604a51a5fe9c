-- One push of Loki's API (POST /loki/api/v1/push, as JSON) becomes one event for each line, with the labels beside it.
function Process(content, emit)
  local request = json_decode(content)
  if request.path ~= "/loki/api/v1/push" then
    drop("not a push")
    return
  end
  local push, wrong = json_decode(request.body)
  if push == nil then
    dead(wrong)
    return
  end
  for _, stream in ipairs(push.streams or {}) do
    for _, value in ipairs(stream.values or {}) do
      -- Nanoseconds as text: more digits than a double has.
      local seconds = tonumber(value[1]:sub(1, -10))
      local line = { timestamp = seconds, nanos = value[1], line = value[2], labels = stream.stream }
      emit("relay", { method = "POST", path = "/loki_lines", body = json_encode(line) })
    end
  end
end

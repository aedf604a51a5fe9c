-- A captured request: its six keys are read, some are changed, and the rest goes on as it came.
function Process(content, emit)
  local wrapped = json_decode(content)
  if wrapped.method == "OPTIONS" then
    return
  end
  local body, err = json_decode(wrapped.body)
  if body == nil then
    wrapped.headers["X-Problem"] = "body: " .. (err and "not JSON" or "?")
    emit("rejected", json_encode(wrapped))
    return
  end
  body.source = wrapped.params.source and wrapped.params.source[1] or "unknown"
  body.agent = wrapped.headers["User-Agent"] and wrapped.headers["User-Agent"][1]
  body.client = wrapped.ip:match("^(.*):%d+$")
  wrapped.path = "/v2" .. wrapped.path
  -- A plain text may stand for a list of one.
  wrapped.headers["X-Forwarded-By"] = "replay"
  wrapped.body = json_encode(body)
  emit("target", json_encode({ path = wrapped.path, method = wrapped.method, headers = wrapped.headers, body = wrapped.body }))
end

-- A line of an access log, as the source `logfile` sends it, becomes a row.
function Process(content, emit)
  local line = content
  local m = grok_parse("%{COMBINEDAPACHELOG}", line)
  local row = { path = "/access_log", body = json_encode(m) }
  emit("out", json_encode(row))
end

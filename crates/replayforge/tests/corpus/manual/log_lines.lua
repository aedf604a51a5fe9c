-- Lines of a log file come as requests whose body is {"content": LINE}. Errors are all kept, of the others each third.
SAMPLE_RATE = 3
local counter = 0

function Process(content, emit)
  local wrapped = json_decode(content)
  local line = json_decode(wrapped["body"])["content"]
  local fields, err = grok_parse("%{COMMONAPACHELOG}", line)
  if err ~= nil then
    error("grok: " .. err)
    return
  end
  -- Empty, where the line is of another form.
  if next(fields) == nil then
    debug("no access line: " .. line)
    return
  end
  local status = tonumber(fields.response)
  local out = { path = fields.request, status = status, bytes = tonumber(fields.bytes) or 0, ip = fields.clientip }
  if status >= 500 then
    emit("errors", json_encode(out))
    return
  end
  counter = counter + 1
  if counter % SAMPLE_RATE == 0 then
    out.weight = SAMPLE_RATE
    emit("access", json_encode(out))
  end
end

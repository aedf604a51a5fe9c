-- Each row of each call becomes a row of the table of that call: pg_sizes, pg_connections. A call that failed becomes a
-- row of pg_errors.
local function row(emit, tbl, fields)
  emit("relay", { method = "POST", path = "/" .. tbl, body = json_encode(fields) })
end

function Process(content, emit)
  local calls = json_decode(json_decode(content).body)
  for name, call in pairs(calls) do
    if call.success then
      for _, fields in ipairs(call.data) do
        fields.timestamp = call.update_timestamp
        row(emit, "pg_" .. name, fields)
      end
    else
      row(emit, "pg_errors", { call = name, error = call.error, timestamp = call.update_timestamp })
    end
  end
end

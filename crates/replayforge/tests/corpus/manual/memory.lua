-- What kv_set keeps: across events, failures of the call, and restarts.
function Process(content, emit)
  local command, rest = content:match("^(%w+) ?(.*)$")
  if command == "once" then
    if kv_get("seen:" .. rest) then
      drop("seen before")
      return
    end
    kv_set("seen:" .. rest, true)
    emit("out", rest)
  elseif command == "count" then
    kv_set("count", (kv_get("count") or 0) + 1)
    emit("out", kv_get("count"))
  elseif command == "table" then
    local list = kv_get("list") or json_array({})
    list[#list + 1] = rest
    kv_set("list", list)
    emit("out", json_encode(kv_get("list")))
  elseif command == "forget" then
    kv_set(rest, nil)
  elseif command == "fail" then
    kv_set("count", 1000)
    lua_error("after it was set")
  end
end

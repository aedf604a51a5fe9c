-- The log functions take anything and end nothing; they hide Lua's own `error` and `debug`.
function Process(content, emit)
  trace("trace", 1)
  debug("debug", nil, true)
  info("info " .. content)
  warn({}, 1.0, 2.5)
  local returned = select("#", error("this is logged, and the call goes on"))
  print("print", "is", "info")
  emit("out", "went on " .. returned .. " " .. type(debug))
  if content == "raise" then
    lua_error("raised by hand")
  elseif content == "object" then
    lua_error({ code = 7 })
  elseif content == "caught" then
    local ok, err = pcall(lua_error, "caught")
    emit("out", tostring(ok) .. " " .. err)
  end
end

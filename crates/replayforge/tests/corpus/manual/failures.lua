-- A call that fails costs its own event. The next one goes on with the variables; after a limit of time or memory they are
-- fresh.
local calls = 0

function Process(content, emit)
  calls = calls + 1
  emit("out", calls .. " " .. content)
  if content == "nil" then
    local nothing
    nothing.field = 1
  elseif content == "loop" then
    while true do end
  elseif content == "memory" then
    local t = {}
    while true do t[#t + 1] = ("x"):rep(1000) .. #t end
  elseif content == "emits" then
    for i = 1, 100 do emit("out", i) end
  elseif content == "bytes" then
    emit("out", ("x"):rep(2000))
  elseif content == "logs" then
    for i = 1, 100 do info(i) end
  end
end

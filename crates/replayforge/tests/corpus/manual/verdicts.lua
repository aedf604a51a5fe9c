-- drop and dead decide about one event, whatever it has emitted; an unknown sink is an error of the script.
function Process(content, emit)
  emit("out", content)
  if content == "health" then
    drop("health check")
  elseif content == "odd" then
    dead("cannot be right")
  elseif content == "both" then
    drop("first")
    dead("last")
  elseif content == "nowhere" then
    emit("elsewhere", content)
  elseif content == "global" then
    _G.emit("out", "by the global")
    _G.emit("other", { as = "a table" })
  end
end

-- A source whose content is any text: lines are sorted into two sinks, and some go nowhere.
function Process(content, emit)
  if content == "" or content:sub(1, 1) == "#" then
    return
  end
  local level, text = content:match("^(%u+)%s+(.*)$")
  if level == nil then
    emit("unknown", content)
  elseif level == "ERROR" or level == "FATAL" then
    emit("alerts", level .. ": " .. text)
    emit("all", content)
  else
    emit("all", content)
  end
end

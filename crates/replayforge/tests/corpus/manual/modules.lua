-- `require` finds files beside the script, and loads each once.
local text = require("lib.text")
local again = require("lib.text")

function Process(content, emit)
  emit("out", text.title(content) .. " " .. tostring(text == again) .. " " .. text.loaded())
  local ok = pcall(require, "lib.missing")
  emit("out", tostring(ok))
end

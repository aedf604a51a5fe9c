local M = {}

loads = (loads or 0) + 1

function M.title(text)
  return (text:gsub("(%a)(%w*)", function(first, rest) return first:upper() .. rest:lower() end))
end

function M.loaded()
  return loads
end

return M

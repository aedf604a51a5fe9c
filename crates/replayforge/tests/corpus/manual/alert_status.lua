-- The script of an alert's table: an empty text is good, anything else is the status that is told.
function extractStatus(json)
  local row = json_decode(json)
  if row.error then
    return "error: " .. row.error
  end
  if tonumber(row.free_percent) < 10 then
    return string.format("disk %d%% full", 100 - row.free_percent)
  end
  if row.paused then
    return nil
  end
  return ""
end

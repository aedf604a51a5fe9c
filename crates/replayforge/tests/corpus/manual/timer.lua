-- Counts by path and tells the counts every hookInterval; a source that is silent tells zeroes.
local counts, started

function init()
  counts = {}
  started = os.time()
end

function Process(content, emit)
  local path = json_decode(content).path
  counts[path] = (counts[path] or 0) + 1
end

function TimerHandler(emit)
  local names = {}
  for name in pairs(counts) do
    table.insert(names, name)
  end
  table.sort(names)
  for _, name in ipairs(names) do
    emit("stats", json_encode({ timestamp = os.time(), value = counts[name], serieName = name }))
    counts[name] = 0
  end
  emit("heartbeat", os.date("!%Y-%m-%dT%H:%M:%SZ") .. " up " .. os.difftime(os.time(), started))
end

-- Tells when nothing has come for SILENCE seconds, once, and when it is over.
local SILENCE = 300

local function tell(emit, subject, message)
  local body = json_encode({ subject = subject, message = message })
  local headers = { ["Content-Type"] = "application/json" }
  emit("hook", { method = "POST", path = "/alerts", headers = headers, body = body })
end

function init()
  -- A restart is no message: what was known before it still counts.
  if kv_get("last") == nil then
    kv_set("last", now())
  end
end

function Process(content, emit)
  if kv_get("silent") then
    local minutes = math.floor((now() - kv_get("last")) / 60)
    tell(emit, "Messages again", "after " .. minutes .. " minutes of silence")
    kv_set("silent", nil)
  end
  kv_set("last", now())
  emit("target", content)
end

function TimerHandler(emit)
  if not kv_get("silent") and now() - kv_get("last") >= SILENCE then
    kv_set("silent", true)
    tell(emit, "No messages", "none since " .. time_format(kv_get("last")))
  end
end

-- GitHub's webhooks: only signed ones, only what somebody wants, each to who wants it.
local WANTED = {
  push = { "builds" },
  release = { "builds", "chat" },
  star = { "chat" },
}

function Process(content, emit)
  local event = json_decode(content)
  local sent = header(event, "X-Hub-Signature-256")
  if sent ~= "sha256=" .. hmac_sha256(os.getenv("WEBHOOK_SECRET"), event.body) then
    drop("bad signature")
    return
  end
  local sinks = WANTED[header(event, "X-GitHub-Event")]
  if sinks == nil then
    drop("not wanted")
    return
  end
  for _, sink in ipairs(sinks) do
    emit(sink, content)
  end
end

-- Decode, change a field, encode: the work of most scripts.
function Process(content, emit)
  local event = json_decode(content)
  event.path = "/replayed"
  emit("out", json_encode(event))
end

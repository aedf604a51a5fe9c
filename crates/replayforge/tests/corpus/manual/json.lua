-- JSON in and out: what is not touched comes back as it was.
function Process(content, emit)
  local value, err = json_decode(content)
  if value == nil then
    emit("bad", err)
    return
  end
  if type(value) == "table" and value.op == "numbers" then
    local list = value.list
    list[#list + 1] = #list
    value.sum = 0
    for _, n in ipairs(list) do
      value.sum = value.sum + n
    end
    value.half = value.sum / 2
    value.big = value.big + 1
  elseif type(value) == "table" and value.op == "new" then
    value = { list = { 1, 2, 3 }, empty = {}, map = { a = 1 }, text = "\"\\\n\tü", yes = true, no = false, none = nil }
  elseif type(value) == "table" and value.op == "null" then
    value.is_null = value.field == json_null
    value.truthy = value.field and true or false
    value.gone = nil
    value.set = json_null
  end
  emit("good", json_encode(value))
end

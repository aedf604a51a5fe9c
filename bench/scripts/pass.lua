function Process(content, emit)
  emit("out", content)
end

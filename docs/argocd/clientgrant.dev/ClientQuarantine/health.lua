-- Health of a ClientQuarantine. It acts as soon as it is read; that it holds is told by the grants of the client, which
-- say Quarantined, and by Ready where the operator writes it.

-- Status and conditions may be missing or of any shape: nothing here is taken for granted.
local function map(value)
  if type(value) == "table" then return value end
  return {}
end

local function text(value)
  if type(value) == "string" then return value end
  return nil
end

local metadata, status = map(obj.metadata), map(obj.status)
local conditions = {}
for _, condition in ipairs(map(status.conditions)) do
  local name = text(map(condition).type)
  if name ~= nil then conditions[name] = condition end
end

local function is(name, value)
  return map(conditions[name]).status == value
end

local function say(health, message)
  return {status = health, message = text(message)}
end

if metadata.deletionTimestamp ~= nil then
  return say("Progressing", "Being deleted")
end

local ready = map(conditions.Ready)
if conditions.Ready == nil then
  return say("Healthy", "Declared")
end
if status.observedGeneration ~= metadata.generation then
  return say("Progressing", "Nobody has looked at this generation yet")
end
if is("Stalled", "True") then
  return say("Degraded", ready.message)
end
if is("Ready", "True") then
  return say("Healthy", ready.message)
end
return say("Progressing", ready.message)

// Turns the compiled hardware and kernel into coroutines: build/src becomes build/explored. A function
// that may touch shared memory becomes a generator, and each access yields before it is made, so that
// the explorer of src/testing decides who goes on. Nothing else is changed but a number (`fewer`): it is
// the code that ships.
//
//   load(words, at)            ->  (yield $op('load', words, at))
//   this.#look(x)              ->  (($t = this.#look(x)) instanceof $Gen ? yield* $t : $t)
//   core.state                 ->  (($o = core).$get_state ? yield* $o.$get_state() : $o.state)
//   core.state = x             ->  (($o = core).$set_state ? yield* $o.$set_state(x) : ($o.state = x))
//   words[at]                  ->  $peek(words, at)          no choice here, but part of what was seen
//   list.filter((x) => …)      ->  (yield* $array.filter(list, …))
//   async f() { … }            ->  *f() { return yield* $async(function* () { … }) }
//   await x                    ->  (yield* $await(x))
//   Promise                    ->  one whose jobs an explored event loop runs
//
// Which functions may touch memory is worked out by name, for all classes together: a name that is
// wrongly suspected costs time and nothing else, because what was called says what it gave. Where a
// generator cannot be (constructors), accesses are made at once.

import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { parse } from 'acorn'
import { root } from './run.mjs'

const from = join(root, 'build', 'src')
const rooms = ['hardware', 'kernel', 'services/store']
const memoryModule = 'hardware/memory.js'

/**
 * Numbers of equal turns: looks at a word before one at the clock. What can come between two of them can
 * come between any two, so that more of them cost time and show nothing.
 */
const fewer = [
  {
    file: 'kernel/idle.js',
    from: 'const LOOKS_PER_CLOCK = 64',
    to: 'const LOOKS_PER_CLOCK = 3',
  },
]

/** Methods of arrays whose callback may touch memory. */
const arrayMethods = new Set([
  'filter',
  'map',
  'every',
  'some',
  'forEach',
  'find',
  'findIndex',
  'flatMap',
])
/** Whose `from` takes such a callback. */
const arrays = new Set(['Array', 'Int32Array', 'Uint8Array'])
/**
 * Members of the shared store that Maps and registers have, too. Nothing that is instrumented calls those of
 * the store: only tests do, and they know.
 */
const common = new Set(['get', 'set', 'has', 'delete', 'read', 'size'])
const isCommon = (name, { file }) => file.startsWith('services/') && common.has(name)
/** Names under which code holds the shared words. */
const wordNames = new Set(['words', '#words', '#attention'])
/** Called with no thought: nothing of them touches shared memory. */
const globals = new Set(
  'Math Number String Array Object Symbol JSON BigInt Promise Error TypeError RangeError Map Set WeakMap Int32Array Uint8Array SharedArrayBuffer isNaN parseInt queueMicrotask'.split(
    ' ',
  ),
)

/** What a function needs for the calls and reads in it. */
const locals = 'let $t, $o; '
const boundary = 'yield $boundary; '

/** What applications put in: scenarios put in generators. */
const callbacks = ['handler', 'onSchedule']

/**
 * What is known of all files together, once without and once with boundaries. It only grows: what a
 * changed copy of a file has added stays, and costs time.
 */
const readings = new Map()
/** The one that is being worked with. */
let boundaries, names, methods
/** From the modules that are being written to those that are not. */
let down

/**
 * Writes the code to a folder below `build`. `changes`: a file, a text that it has once, another text;
 * throws if it has not. With `boundaries` an interrupt may come at the beginning of every method and of
 * every turn of a loop, whether it touches memory or not: where V8 lets one in.
 */
export function instrument(folder, { boundaries: atBoundaries = false, changes = [] } = {}) {
  if (!readings.has(atBoundaries)) readings.set(atBoundaries, readAll())
  boundaries = atBoundaries
  const all = readings.get(boundaries)
  names = all.names
  methods = all.methods
  down = '../'.repeat(folder.split('/').length)
  const changed = new Map(
    changes.map(({ file }) => [file, readModule(file, [...fewer, ...changes])]),
  )
  const modules = all.modules.map((module) => changed.get(module.file) ?? module)
  for (const { source } of changed.values()) addMethods(source)
  // By name, until nothing more is found.
  for (let before = -1; before !== size();) {
    before = size()
    for (const module of modules) findYielding(module)
  }
  const to = join(root, 'build', folder)
  rmSync(to, { recursive: true, force: true })
  for (const module of modules) {
    const target = join(to, module.file)
    mkdirSync(dirname(target), { recursive: true })
    writeFileSync(target, printed(module))
  }
}

function readAll() {
  const files = rooms.flatMap((room) =>
    readdirSync(join(from, room), { recursive: true })
      .map((name) => `${room}/${String(name).replaceAll('\\', '/')}`)
      .filter((name) => name.endsWith('.js') && name !== memoryModule),
  )
  const modules = files.map((file) => readModule(file, fewer))
  methods = new Set()
  for (const { source } of modules) addMethods(source)
  names = { yielding: new Set(callbacks), getters: new Set(), setters: new Set() }
  return { modules, names, methods }
}

function readModule(file, changes) {
  const source = change(file, readFileSync(join(from, file), 'utf8'), changes)
  const tree = parse(source, { ecmaVersion: 2022, sourceType: 'module', preserveParens: true })
  link(tree, undefined)
  return { file, source, tree, ...bindings(tree) }
}

/** The text of a file, with the changes that are for it. */
function change(file, text, changes) {
  let source = text.replace(/^\/\/# sourceMappingURL.*$/m, '')
  for (const { file: where, from: before, to: after } of changes) {
    if (where !== file) continue
    if (source.split(before).length !== 2) throw new Error(`${file} has not one "${before}"`)
    source = source.replace(before, () => after)
  }
  return source
}

/** Takes note of the private methods of a module's classes. */
function addMethods(source) {
  for (const [, name] of source.matchAll(/^ {4}(?:static )?(?:async )?(#\w+)\(/gm))
    methods.add(name)
}

function size() {
  return names.yielding.size + names.getters.size + names.setters.size
}

/** Gives every node its parent. */
function link(node, parent) {
  node.parent = parent
  for (const child of children(node)) link(child, node)
}

function children(node) {
  const found = []
  for (const [key, value] of Object.entries(node)) {
    if (key === 'parent') continue
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== null && typeof each === 'object' && typeof each.type === 'string')
        found.push(each)
    }
  }
  return found.sort((a, b) => a.start - b.start)
}

/** What a module imports from the bus, what it imports at all, and its own functions. */
function bindings(tree) {
  const operations = new Map()
  const known = new Set()
  for (const node of tree.body) {
    if (node.type === 'ImportDeclaration') {
      for (const { imported, local } of node.specifiers) {
        known.add(local.name)
        if (node.source.value.endsWith('/memory.js')) operations.set(local.name, imported.name)
      }
    }
    const declaration = node.declaration ?? node
    if (declaration?.type === 'FunctionDeclaration') known.add(declaration.id.name)
  }
  return { operations, known }
}

function isFunction(node) {
  return /^(Function(Declaration|Expression)|ArrowFunctionExpression)$/.test(node.type)
}

/** Whether everybody who calls it can be told by its name. */
function isMethod(fn) {
  if (fn.generator) return false
  return (
    fn.type === 'FunctionDeclaration' ||
    (fn.parent.type === 'MethodDefinition' && !fn.parent.computed)
  )
}

/** The names under which a function can be called. */
function namesOf(fn) {
  const { parent } = fn
  if (fn.id) return [fn.id.name]
  switch (parent.type) {
    case 'MethodDefinition':
    case 'PropertyDefinition':
    case 'Property':
      return [nameOf(parent.key)]
    case 'VariableDeclarator':
      return [parent.id.name]
    case 'AssignmentExpression':
      return [
        parent.left.type === 'MemberExpression' ? nameOf(parent.left.property) : parent.left.name,
      ]
    default:
      return []
  }
}

function nameOf(key) {
  return key.type === 'PrivateIdentifier' ? `#${key.name}` : (key.name ?? String(key.value))
}

/** Whether a function can be a generator. */
function canYield(fn) {
  return fn.parent.kind !== 'constructor'
}

/** Whether a function, by what stands in it and not in functions inside, may touch memory. */
function mayTouch(fn, module) {
  if (fn.async || (boundaries && isMethod(fn))) return true
  const look = (node) => {
    if (node !== fn && isFunction(node)) return false
    return touches(node, module) || children(node).some(look)
  }
  return [...fn.params, fn.body].some(look)
}

function touches(node, module) {
  if (node.type === 'CallExpression') return callMayYield(node, module)
  if (node.type === 'MemberExpression' && !node.computed) {
    const name = nameOf(node.property)
    if (isTarget(node)) return names.setters.has(name)
    return names.getters.has(name) && !isCallee(node)
  }
  if (node.type === 'ObjectPattern') {
    return node.properties.some(({ key }) => key !== undefined && names.getters.has(nameOf(key)))
  }
  return false
}

function isTarget(node) {
  return node.parent.type === 'AssignmentExpression' && node.parent.left === node
}

function isCallee(node) {
  return node.parent.type === 'CallExpression' && node.parent.callee === node
}

function callMayYield(node, module) {
  const { callee } = node
  if (callee.type === 'Identifier') {
    if (module.operations.has(callee.name)) return true
    if (names.yielding.has(callee.name)) return true
    // A function that came from elsewhere: an argument, a variable.
    return !module.known.has(callee.name) && !globals.has(callee.name)
  }
  if (callee.type === 'MemberExpression') {
    if (callee.computed) return true
    if (isArrayCall(node)) return true
    const name = nameOf(callee.property)
    return names.yielding.has(name) || isCallback(name)
  }
  return callee.type !== 'Super' && callee.type !== 'Import'
}

/** Whether a name stands for a function that somebody has put in, and not for a method. */
function isCallback(name) {
  return /^on[A-Z]/.test(name) || (name.startsWith('#') && !methods.has(name))
}

/** `list.filter(callback)` with a callback that may touch memory. */
function isArrayCall({ callee, arguments: given }) {
  if (callee.type !== 'MemberExpression' || callee.computed) return false
  const isFrom = arrays.has(callee.object.name)
  const [callback] = isFrom ? given.slice(1) : given
  const name = nameOf(callee.property)
  const method = isFrom ? name === 'from' : arrayMethods.has(name)
  return method && callback !== undefined && isFunction(callback) && callback.yields === true
}

function findYielding(module) {
  const visit = (node) => {
    children(node).forEach(visit)
    if (!isFunction(node) || node.yields === true || !mayTouch(node, module)) return
    const { kind } = node.parent
    if (node.parent.type === 'MethodDefinition' && (kind === 'get' || kind === 'set')) {
      const set = kind === 'get' ? names.getters : names.setters
      if (!isCommon(nameOf(node.parent.key), module)) set.add(nameOf(node.parent.key))
    } else if (canYield(node)) {
      node.yields = true
      for (const name of namesOf(node)) if (!isCommon(name, module)) names.yielding.add(name)
    }
  }
  visit(module.tree)
}

/** The same, from memory if nothing has been learned since. */
function printed(module) {
  const state = `${size()} ${down}`
  if (module.printed?.state !== state) module.printed = { state, text: print(module) }
  return module.printed.text
}

/** The module anew. */
function print(module) {
  const { tree, file } = module
  const up = '../'.repeat(file.split('/').length - 1)
  const header = `import { $arm, $array, $async, $await, $boundary, $Gen, $now, $op, $pause, $peek, $Promise as Promise, $run, $wait } from '${up}${down}test/support/explorer-runtime.js'\nlet $t, $o\n`
  return header + render(tree, module, { yields: false })
}

/** A node's text, with what is inside it rendered. */
function inner(node, module, context) {
  const { source } = module
  let text = ''
  let at = node.start
  for (const child of children(node)) {
    if (child.start < at) continue
    text += source.slice(at, child.start) + render(child, module, context)
    at = child.end
  }
  return text + source.slice(at, node.end)
}

function render(node, module, context) {
  if (!boundaries || !context.yields || !isTurn(node)) return renderWhole(node, module, context)
  const turn = renderWhole(node, module, context)
  return node.type === 'BlockStatement' ? `{ ${boundary}${turn.slice(1)}` : `{ ${boundary}${turn} }`
}

/** Whether it is what a loop does again and again. */
function isTurn(node) {
  const { parent } = node
  return /^(For|While|DoWhile)/.test(parent?.type ?? '') && parent.body === node
}

function renderWhole(node, module, context) {
  switch (node.type) {
    case 'ImportDeclaration':
      return renderImport(node, module)
    case 'MethodDefinition':
      return renderMethod(node, module)
    case 'FunctionDeclaration':
    case 'FunctionExpression':
    case 'ArrowFunctionExpression':
      return renderFunction(node, module)
    case 'CallExpression':
      return renderCall(node, module, context)
    case 'MemberExpression':
      return renderRead(node, module, context)
    case 'AssignmentExpression':
      return renderAssignment(node, module, context)
    case 'VariableDeclaration':
      return renderDeclaration(node, module, context)
    case 'AwaitExpression':
      return `(yield* $await(${render(node.argument, module, context)}))`
    default:
      return inner(node, module, context)
  }
}

function renderImport(node, module) {
  const { value } = node.source
  if (value.endsWith('/memory.js')) return ''
  const text = inner(node, module, { yields: false })
  // The words of the field are not instrumented; there is one copy of them.
  const depth = down + '../'.repeat(module.file.split('/').length - 1)
  return text.replace(/(['"])(?:\.\.\/)+base\//, `$1${depth}src/base/`)
}

function renderFunction(node, module) {
  const context = { yields: node.yields === true }
  // A default cannot yield.
  const params = `(${node.params.map((param) => render(param, module, { yields: false })).join(', ')})`
  const block = node.body.type === 'BlockStatement'
  const content = render(node.body, module, context)
  const first = boundaries && context.yields && isMethod(node) ? locals + boundary : locals
  const plain = block ? `{ ${first}${content.slice(1)}` : `{ ${first}return (${content}) }`
  const body = node.async ? `{ return yield* $async((function* () ${plain}).bind(this)) }` : plain
  if (node.type === 'ArrowFunctionExpression') {
    if (node.yields === true) return `(function* ${params} ${body}).bind(this)`
    return `(${params} => ${body})`
  }
  if (node.parent.type === 'MethodDefinition' || node.parent.method === true)
    return `${params} ${body}`
  const star = node.yields === true ? '*' : ''
  return `function${star} ${node.id?.name ?? ''}${params} ${body}`
}

function renderMethod(node, module) {
  const { source } = module
  const { key, value, kind } = node
  const before = node.static ? 'static ' : ''
  const name = source.slice(key.start, key.end)
  const keyText = node.computed ? `[${name}]` : name
  if (kind === 'constructor') return `constructor${renderFunction(value, module)}`
  if (kind === 'get' || kind === 'set') {
    const plain = `${before}${kind} ${keyText}${renderFunction(value, module)}`
    const set = kind === 'get' ? names.getters : names.setters
    if (!set.has(nameOf(key))) return plain
    value.yields = true
    const generator = `${before}*${twin(kind, nameOf(key))}${renderFunction(value, module)}`
    value.yields = false
    return `${plain}\n    ${generator}`
  }
  const star = value.yields === true ? '*' : ''
  return `${before}${star}${keyText}${renderFunction(value, module)}`
}

function renderCall(node, module, context) {
  const { callee } = node
  const args = node.arguments.map((each) => render(each, module, context))
  if (callee.type === 'Identifier' && module.operations.has(callee.name)) {
    const name = module.operations.get(callee.name)
    if (name === 'waitAsync') return `(yield* $arm(${args.join(', ')}))`
    if (context.yields && name === 'wait') return `(yield* $wait(${args.join(', ')}))`
    if (context.yields && name === 'pause') return '(yield* $pause())'
    const operation = [`'${name}'`, ...args].join(', ')
    return context.yields ? `(yield $op(${operation}))` : `$now(${operation})`
  }
  if (isArrayCall(node)) {
    const { object, property } = callee
    const list = arrays.has(object.name) ? [] : [render(object, module, context)]
    const call = `$array.${nameOf(property)}(${[...list, ...args].join(', ')})`
    const result = `(${delegate(call, context)})`
    return list.length > 0 || object.name === 'Array' ? result : `${object.name}.from(${result})`
  }
  // The callee is no read: of a getter it would be, but there is none that gives a function.
  const target =
    callee.type === 'MemberExpression'
      ? renderMember(callee, module, context)
      : render(callee, module, context)
  const optional = node.optional ? '?.' : ''
  const call = `${target}${optional}(${args.join(', ')})`
  if (!callMayYield(node, module)) return call
  return context.yields ? `(($t = ${call}) instanceof $Gen ? yield* $t : $t)` : `$run(${call})`
}

/** `a.b` and `a[b]` with `a` and `b` rendered. */
function renderMember(node, module, context) {
  const { source } = module
  const object = render(node.object, module, context)
  if (node.computed) {
    return `${object}${node.optional ? '?.' : ''}[${render(node.property, module, context)}]`
  }
  const dot = node.optional ? '?.' : '.'
  return `${object}${dot}${source.slice(node.property.start, node.property.end)}`
}

function renderRead(node, module, context) {
  const text = renderMember(node, module, context)
  if (isTarget(node) || node.parent.type === 'UpdateExpression') return text
  if (node.computed && isWords(node.object)) {
    const object = render(node.object, module, context)
    return `$peek(${object}, ${render(node.property, module, context)})`
  }
  if (node.computed || !names.getters.has(nameOf(node.property))) return text
  const object = render(node.object, module, context)
  return read(object, nameOf(node.property), context, isOptional(node) ? '?.' : '.')
}

function isWords(node) {
  const name = node.type === 'MemberExpression' ? nameOf(node.property) : node.name
  return wordNames.has(name)
}

/** Goes on with a generator: step by step, or at once where that cannot be. */
function delegate(generator, context) {
  return context.yields ? `yield* ${generator}` : `$run(${generator})`
}

/** The generator beside an accessor. */
function twin(kind, name) {
  return name.startsWith('#') ? `#$${kind}_${name.slice(1)}` : `$${kind}_${name}`
}

function read(object, name, context, dot = '.') {
  const get = twin('get', name)
  if (name.startsWith('#')) return `(${delegate(`${object}.${get}()`, context)})`
  return `(($o = ${object})${dot}${get} ? ${delegate(`$o.${get}()`, context)} : $o${dot}${name})`
}

/** Whether something before it in the chain may be missing: `a?.b.c`. */
function isOptional({ type, optional, object, callee }) {
  if (type === 'CallExpression') return optional || isOptional(callee)
  return type === 'MemberExpression' && (optional || isOptional(object))
}

function renderAssignment(node, module, context) {
  const { left, right, operator } = node
  const name = left.type === 'MemberExpression' && !left.computed ? nameOf(left.property) : ''
  if (!names.setters.has(name)) return inner(node, module, context)
  if (operator !== '=') throw new Error(`${module.file}: ${operator} to ${name}`)
  const value = render(right, module, context)
  const object = render(left.object, module, context)
  const set = twin('set', name)
  if (name.startsWith('#')) return `(${delegate(`${object}.${set}(${value})`, context)})`
  return `(($o = ${object}).${set} ? ${delegate(`$o.${set}(${value})`, context)} : ($o.${name} = ${value}))`
}

/** `const { doorbell } = core`, where that is a getter that touches memory. */
function renderDeclaration(node, module, context) {
  const pattern = node.declarations[0].id
  if (pattern.type !== 'ObjectPattern' || !touches(pattern, module))
    return inner(node, module, context)
  const [{ init }] = node.declarations
  // Of a loop: what it reads is read at once.
  if (init === null) return inner(node, module, context)
  const holder = `$d${node.start}`
  const parts = pattern.properties.map(({ key, value }) => {
    const name = nameOf(key)
    const given = names.getters.has(name) ? read(holder, name, context) : `${holder}.${name}`
    const text = (part) => module.source.slice(part.start, part.end)
    if (value.type !== 'AssignmentPattern') return `${text(value)} = ${given}`
    return `${text(value.left)} = ($t = ${given}) === undefined ? ${render(value.right, module, context)} : $t`
  })
  return `const ${holder} = ${render(init, module, context)}, ${parts.join(', ')};`
}

/**
 * Errors across threads: class name, message, code, cause, cloneable fields and the stacks of both
 * sides. Structured clone alone keeps little more than the message.
 */

import { IpiError, IPI_ERROR_CODES, type IpiErrorCode } from '../base/errors.ts'

/** An error as it crosses: plain data. */
export interface ErrorDescription {
  /** Not an Error at all: what was thrown. */
  readonly thrown?: unknown
  readonly isError: boolean
  /** The name of its class. */
  readonly className: string
  readonly name: string
  readonly message: string
  readonly stack: string
  /** Own enumerable fields that can be cloned, `code` among them. */
  readonly fields: Record<string, unknown>
  readonly cause?: ErrorDescription
  /** The parts of an AggregateError. */
  readonly errors?: ErrorDescription[]
}

/** Causes deeper than this are cut off. */
const CAUSE_DEPTH_MAX = 8

/** The built-in classes that are rebuilt as themselves. */
const BUILT_IN: Record<string, ErrorConstructor> = {
  Error,
  TypeError,
  RangeError,
  SyntaxError,
  ReferenceError,
  EvalError,
  URIError,
}

/** Describes whatever was thrown. `isCloneable` decides which fields come along. Never throws. */
export function describeError(
  error: unknown,
  isCloneable: (value: unknown) => boolean,
  depth = 0,
): ErrorDescription {
  const nothing = { isError: false, className: '', name: '', message: '', stack: '', fields: {} }
  try {
    if (!(error instanceof Error)) {
      return { ...nothing, thrown: isCloneable(error) ? error : String(error) }
    }
    const fields: Record<string, unknown> = {}
    for (const key of Object.keys(error)) {
      if (key === 'stack' || key === 'message' || key === 'cause' || key === 'name') continue
      const value = (error as unknown as Record<string, unknown>)[key]
      if (isCloneable(value)) fields[key] = value
    }
    const parts = (error as { errors?: unknown }).errors
    return {
      isError: true,
      className: error.constructor.name,
      name: String(error.name),
      message: String(error.message),
      stack: userFrames(String(error.stack ?? '')),
      fields,
      ...(error.cause === undefined || depth >= CAUSE_DEPTH_MAX
        ? {}
        : { cause: describeError(error.cause, isCloneable, depth + 1) }),
      ...(error instanceof AggregateError && Array.isArray(parts) && depth < CAUSE_DEPTH_MAX
        ? { errors: parts.map((part) => describeError(part, isCloneable, depth + 1)) }
        : {}),
    }
  } catch {
    // A getter or a proxy of the error threw: say at least that something was thrown.
    return { ...nothing, isError: true, className: 'Error', name: 'Error', message: 'unreadable' }
  }
}

/** Cuts off the frames of this library under the function that an interrupt ran. */
function userFrames(stack: string): string {
  const lines = stack.split('\n')
  const ours = lines.findIndex((line) => SERVER_FRAME.test(line))
  return ours < 0 ? stack : lines.slice(0, ours).join('\n')
}

/** The frame of `runSharedFunction`, by its name: what file it stands in depends on the build. */
const SERVER_FRAME = /^\s+at runSharedFunction /

/** Runs a shared function for another CPU. Its frame is where the remote part of a stack ends. */
export function runSharedFunction(run: (info: unknown) => unknown, info: unknown): unknown {
  return run(info)
}

/**
 * Rebuilds what was thrown. `where` names the hop for the stack, `callerStack` is the stack of the
 * side that asked.
 */
export function rebuildError(
  description: ErrorDescription,
  where: string,
  callerStack: string,
): unknown {
  if (!description.isError) return description.thrown
  const cause =
    description.cause === undefined ? {} : { cause: rebuildError(description.cause, '', '') }
  const error = construct(description, cause)
  if (error.name !== description.name) define(error, 'name', description.name)
  const frames = callerStack.split('\n').slice(1).join('\n')
  define(error, 'stack', description.stack + (where === '' ? '' : `\n    ${where}\n${frames}`))
  Object.assign(error, description.fields)
  return error
}

/** The classes of this library: their instances come back as the first of them. */
const OURS: readonly string[] = ['IpiError', 'SmpCallError']

function construct(description: ErrorDescription, options: ErrorOptions): Error {
  const { className, message, fields, errors } = description
  if (OURS.includes(className) && Object.hasOwn(IPI_ERROR_CODES, String(fields['code']))) {
    return new IpiError(fields['code'] as IpiErrorCode, message, options)
  }
  if (errors !== undefined) {
    const parts = errors.map((part) => rebuildError(part, '', ''))
    return new AggregateError(parts, message, options)
  }
  const Class = Object.hasOwn(BUILT_IN, className) ? BUILT_IN[className]! : Error
  return new Class(message, options)
}

function define(error: Error, key: string, value: string): void {
  Object.defineProperty(error, key, { value, writable: true, configurable: true })
}

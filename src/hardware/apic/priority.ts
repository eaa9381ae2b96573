/**
 * Who goes first: the two priorities that an APIC computes. Intel SDM vol. 3, chapter "APIC",
 * "Interrupt, Task, and Processor Priority". All functions are pure.
 *
 * A vector's class is its high nibble, 1 to 15. A class can interrupt only classes below it.
 */

/** Vectors below this one, class 0, are illegal for the APIC: logged, never delivered. */
export const FIRST_VECTOR = 16

/** The class of a vector, or of a priority register. */
export function priorityClass(vector: number): number {
  return vector >>> 4
}

/**
 * What the APIC lets through: only classes above the class of this. `inService` is the highest
 * vector in service, or 0.
 */
export function processorPriority(taskPriority: number, inService: number): number {
  return priorityClass(taskPriority) >= priorityClass(inService) ? taskPriority : inService & 0xf0
}

/**
 * How little a CPU wants a lowest-priority interrupt. `requested` and `inService` are the highest
 * such vectors, or 0. The bitwise AND of two classes is no slip of ours: the manual prints it.
 */
export function arbitrationPriority(
  taskPriority: number,
  requested: number,
  inService: number,
): number {
  const task = priorityClass(taskPriority)
  const serving = priorityClass(inService)
  const waiting = priorityClass(requested)
  if (task >= waiting && task > serving) return taskPriority
  return Math.max(task & serving, waiting) << 4
}

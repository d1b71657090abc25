/** How a figure grows: the exponent of the power of n that fits it best. */

/**
 * The slope of the least-squares line through (ln n, ln y): 1 is linear, 2 is quadratic.
 * @param points positive values of n and y, at least two different n
 */
export function growthOf(points: readonly (readonly [number, number])[]): number {
  const logs = points.map(([n, y]) => [Math.log(n), Math.log(y)] as const)
  const meanX = logs.reduce((sum, [x]) => sum + x, 0) / logs.length
  const meanY = logs.reduce((sum, [, y]) => sum + y, 0) / logs.length
  let [over, under] = [0, 0]
  for (const [x, y] of logs) {
    over += (x - meanX) * (y - meanY)
    under += (x - meanX) ** 2
  }
  return over / under
}

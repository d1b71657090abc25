/** Owns the second look at what seems to be lost, before a repair gives it up for good: a read may go wrong on its way. */
import { isFailure } from '@stillpoint/core/kernel'

/** Reads once more what is damaged or missing; the second answer counts. */
export async function readAgain<T>(read: () => Promise<T>): Promise<T> {
  try {
    return await read()
  } catch (error) {
    if (!isFailure(error, 'object_damaged') && !isFailure(error, 'object_missing')) throw error
    return read()
  }
}

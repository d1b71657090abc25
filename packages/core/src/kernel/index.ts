export * from './assert.ts'
export * from './env.ts'
export * from './failure.ts'
export * from './ids.ts'

/** What other programs may use of the command's package: the bank of the demo, to run by hand. */
export { type Bank, bankTotal, branchNames, createBank } from './demo/bank/bank.ts'
export { layOutBank } from './demo/bank-system.ts'

import type { CellTable } from './cells.ts'
import { CREDENTIAL_CELLS } from './credential-cells.ts'
import { FLEET_CELLS } from './fleet-cells.ts'
import { PEOPLE_CELLS } from './people-cells.ts'
import { TOKEN_CELLS } from './token-cells.ts'

/** The calls of every route. */
export const CELLS: CellTable = { ...FLEET_CELLS, ...CREDENTIAL_CELLS, ...TOKEN_CELLS, ...PEOPLE_CELLS }

/** The private PostgreSQL cannot be had; the message says why and what to do, for the person who starts the server. */
export class EmbeddedPostgresError extends Error {
  constructor(message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.name = 'EmbeddedPostgresError'
  }
}
